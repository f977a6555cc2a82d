# SPDX-License-Identifier: GPL-2.0-or-later
"""create."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import Paths
from xenner.types import Domid
from xenner.vmcorelocks import is_owned
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xlcfg import DomainConfig
from xenner.xlsyntax import quoted
from xennerd.ctl import formats
from xennerd.ctl.command import Add, Command, UsageError
from xennerd.ctl.console import attach
from xennerd.ctl.domains import (
    WHO_MAY,
    find_domain,
    find_named,
)
from xennerd.ctl.files import warn
from xennerd.ctl.plugging import warn_of_vif
from xennerd.domain.file import NO_FILE, config_of, read_text
from xennerd.domain.records import read_record
from xennerd.domain.resources import without_limits
from xennerd.qmp.client import QmpClient, QmpRefusedError

# Longer than xennerd gives the guest.
_READY_LIMIT_S = 150.0
_NO_DAEMON = f"systemctl start xennerd, or xennerd by hand; for {WHO_MAY}"
# The time limit for xennerd to handle a killed domain of that name.
_AGAIN_LIMIT_S = 30.0
_LOOK_S = 0.2


def _declare(add: Add) -> None:
    """xl's options; those that are for what is not here say so."""
    add("-p", dest="is_paused", action="store_true", help="leave it paused")
    add("-c", dest="console", action="store_true", help="go to its console")
    add("-n", "--dryrun", action="store_true", help="start nothing")
    add("-d", dest="debug", action="store_true", help="show what is read")
    add(
        "-q",
        "--quiet",
        action="store_true",
        help="do not say which file is read",
    )
    add("-F", dest="stays", action="store_true", help="until it has ended")
    add("-e", action="store_true", help="no effect")
    for short, long, why in (
        ("-i", "ignore-global-affinity-masks", "no effect: there are none"),
        ("-V", "vncviewer", "no effect: there is no screen"),
        ("-A", "vncviewer-autopass", "no effect: there is no screen"),
    ):
        add(short, f"--{long}", action="store_true", help=why)
    add_source(add)


def add_source(add: Add) -> None:
    """What source_of() makes of it."""
    add("-f", "--defconfig", metavar="FILE", help="the file, by an option")
    add("words", nargs="*", metavar="file | key=value")


@dataclass(frozen=True, slots=True)
class Source:
    """What words on the command line name: a file and settings that win."""

    file: Path
    settings: str


def source_of(words: Sequence[str], *, defconfig: str | None) -> Source:
    """As xl: what has "=" in it is a setting, wherever it stands, and one
    word has none. Without a file, or with /dev/null, settings are all.
    UsageError."""
    settings = [word for word in words if "=" in word]
    files = [word for word in words if "=" not in word]
    if defconfig is not None:
        files.insert(0, defconfig)
    if len(files) > 1:
        raise UsageError(f"{files[1]}: a file is given already, {files[0]}")
    if not files and not settings:
        raise UsageError("which file?")
    return Source(Path(files[0]) if files else NO_FILE, "\n".join(settings))


def _create(arguments: argparse.Namespace) -> int:
    source = source_of(arguments.words, defconfig=arguments.defconfig)
    path, extra = source.file, source.settings
    if not arguments.quiet:
        print(f"Parsing config from {path}", file=sys.stderr)
    text = read_text(path)
    config = config_of(text, path, extra=extra)
    warn(config)
    if arguments.debug or arguments.dryrun:
        handle = config.handle or uuid.uuid4()
        shown = formats.planned_config(config, str(handle))
        stream = sys.stdout if arguments.dryrun else sys.stderr
        print(json.dumps(shown, indent=4), file=stream)
    if arguments.dryrun:
        return 0
    if arguments.vncviewer or arguments.vncviewer_autopass:
        print("warning: no guest has a screen to be viewed", file=sys.stderr)
    paths = Paths.of(os.environ)
    if find_named(paths, config.name) is not None:
        raise HostError(f'Domain with name "{config.name}" already exists.')
    extra = "\n".join((extra, *from_here(config, Path.cwd())))
    # Paused, so that the console shows the first line too.
    waits = arguments.is_paused or arguments.console
    domid, unit = _start(paths, path, text, extra, is_paused=waits)
    if not domid:
        # It is so short a guest that it has ended.
        return 0
    if not unit and (warning := without_limits(config)):
        print(f"warning: {warning}", file=sys.stderr)
    _warn_of_vifs(paths, domid, config)
    if arguments.console:
        domain = find_domain(paths, str(domid))
        if arguments.is_paused:
            attach(paths, domain)
        else:
            attach(paths, domain, partial(_go, paths.monitor(domid)))
    if arguments.stays:
        _stay(paths, domid)
    return 0


def _go(monitor: Path) -> None:
    with QmpClient(monitor) as client:
        client.execute("cont")


def _warn_of_vifs(paths: Paths, domid: Domid, config: DomainConfig) -> None:
    if not config.vifs:
        return
    with suppress(OSError, XenstoreError), Xenstore(paths.xenstore) as store:
        for vif in config.vifs:
            warn_of_vif(store, domid, vif.devid)


def _stay(paths: Paths, domid: Domid) -> None:
    """Until the domain is gone, or dead and stays: a restart is no end."""
    deadline_s = time.monotonic() + _AGAIN_LIMIT_S
    while (record := read_record(paths.runtime_dir, domid)) is not None:
        if record.end or time.monotonic() > deadline_s:
            return
        if is_owned(paths.vmcore(domid)):
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(record.pid)
                try:
                    # pidfd_open(2): readable when the process has ended.
                    select.select([fd], [], [])
                finally:
                    os.close(fd)
            deadline_s = time.monotonic() + _AGAIN_LIMIT_S
        # It was killed: xennerd starts it again, or forgets it.
        time.sleep(_LOOK_S)


def from_here(config: DomainConfig, here: Path) -> Iterator[str]:
    """Settings for what the file names without its directory, which for xl is
    where it was called, and for xennerd would be another one. Pure."""
    for key, path in (("kernel", config.kernel), ("ramdisk", config.ramdisk)):
        if path and not path.startswith("/"):
            yield f"{key}={quoted(str(here / path))}"


def _start(
    paths: Paths, file: Path, text: str, extra: str, *, is_paused: bool
) -> tuple[Domid, str]:
    """Returns when the guest runs, with its number and its unit, if it is one;
    xennerd has it then. Without a number it has ended meanwhile."""
    path = paths.xennerd
    try:
        with QmpClient(
            path, server="xennerd", hint=_NO_DAEMON, limit_s=_READY_LIMIT_S
        ) as daemon:
            created = daemon.execute(
                "domain-create",
                file=str(file.absolute()),
                # xennerd runs as another user, which may not be able to read
                # it.
                text=text,
                settings=extra,
                paused=is_paused,
            )
    except QmpRefusedError as error:
        raise HostError(error.reason) from None
    return Domid(int(created["domid"])), str(created["unit"])


COMMANDS = {
    "create": Command(
        _create,
        _declare,
        "Create a domain from config file <filename>",
    ),
}
