# SPDX-License-Identifier: GPL-2.0-or-later
"""create, and console."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xlcfg import DomainConfig
from xenner.xlsyntax import quoted
from xennerd.ctl.command import Command, parser_of
from xennerd.ctl.domains import (
    WHO_MAY,
    Domain,
    Places,
    find_domain,
    list_domains,
)
from xennerd.ctl.files import warn
from xennerd.ctl.plugging import warn_of_vif
from xennerd.domainfile import config_of, read_text
from xennerd.limits import without_limits
from xennerd.qmp.client import QmpClient, QmpRefusedError
from xennerd.records import read_record
from xennerd.vm.escape import LEAVE

# Longer than xennerd gives the guest.
_READY_LIMIT_S = 150.0
_NO_DAEMON = f"systemctl start xennerd, or xennerd by hand; for {WHO_MAY}"


def _create(words: Sequence[str]) -> int:
    parser = parser_of("create")
    add = parser.add_argument
    add("-p", dest="is_paused", action="store_true", help="leave it paused")
    add("-c", dest="console", action="store_true", help="go to its console")
    add("-n", "--dryrun", action="store_true", help="start nothing")
    add("-q", "--quiet", action="store_true")
    add("-f", "--defconfig", help="the file, not as a word of its own")
    add("file", nargs="?")
    add("settings", nargs="*", metavar="key=value")
    arguments = parser.parse_args(words)
    settings = list(arguments.settings)
    file = arguments.defconfig or arguments.file
    if arguments.defconfig and arguments.file:
        settings.insert(0, arguments.file)
    if not file:
        parser.error("which file?")
    if not arguments.quiet:
        print(f"Parsing config from {file}", file=sys.stderr)
    extra = "\n".join(settings)
    path = Path(file)
    text = read_text(path)
    config = config_of(text, path, extra=extra)
    warn(config)
    if arguments.dryrun:
        return 0
    places = Places.of(os.environ)
    if any(config.name == other.name for other in list_domains(places)):
        raise HostError(f'Domain with name "{config.name}" already exists.')
    extra = "\n".join((extra, *from_here(config, Path.cwd())))
    domid, unit = _start(
        places, path, text, extra, is_paused=arguments.is_paused
    )
    if not unit and (warning := without_limits(config)):
        print(f"warning: {warning}", file=sys.stderr)
    if config.vifs:
        with (
            suppress(OSError, XenstoreError),
            Xenstore(places.xenstore) as store,
        ):
            for vif in config.vifs:
                warn_of_vif(store, domid, vif.devid)
    if arguments.console:
        return _attach(places, find_domain(places, config.name))
    return 0


def from_here(config: DomainConfig, here: Path) -> Iterator[str]:
    """Settings for what the file names without its directory, which for xl is
    where it was called, and for xennerd would be another one. Pure."""
    for key, path in (("kernel", config.kernel), ("ramdisk", config.ramdisk)):
        if path and not path.startswith("/"):
            yield f"{key}={quoted(str(here / path))}"


def _start(
    places: Places, file: Path, text: str, extra: str, *, is_paused: bool
) -> tuple[Domid, str]:
    """Returns when the guest runs, with its number and its unit, if it is one;
    xennerd has it then."""
    path = places.runtime_dir / "xennerd.socket"
    try:
        with QmpClient(
            path, server="xennerd", hint=_NO_DAEMON, limit_s=_READY_LIMIT_S
        ) as daemon:
            created = daemon.execute(
                "domain-create",
                file=str(file.absolute()),
                # xennerd is another user, who may not read it.
                text=text,
                settings=extra,
                paused=is_paused,
            )
    except QmpRefusedError as error:
        raise HostError(error.reason) from None
    return Domid(int(created["domid"])), str(created["unit"])


def _console(words: Sequence[str]) -> int:
    parser = parser_of("console")
    parser.add_argument("-t", dest="kind", choices=["pv"], default="pv")
    parser.add_argument("-n", dest="number", type=int, default=0)
    parser.add_argument("domain")
    places = Places.of(os.environ)
    domain = find_domain(places, parser.parse_args(words).domain)
    return _attach(places, domain)


def _attach(places: Places, domain: Domain) -> int:
    """The caller's terminal is the guest's until Ctrl-] or its end. Of a dead
    one there is only what it wrote last."""
    if domain.end:
        record = read_record(places.runtime_dir, domain.domid)
        os.write(1, record.last_words.encode("latin-1") if record else b"")
        return 0
    path = places.runtime_dir / f"console.{domain.domid}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise HostError(f"console {path}: {error.strerror}") from error
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        tty.setraw(fd)
        if os.isatty(0):
            before = termios.tcgetattr(0)
            stack.callback(termios.tcsetattr, 0, termios.TCSANOW, before)
            tty.setraw(0)
        pump(fd)
    return 0


def pump(fd: int) -> None:
    """Between standard input and output and a terminal, until Ctrl-] or its
    end."""
    sources = [0, fd]
    while True:
        found, _, _ = select.select(sources, [], [])
        if fd in found:
            data = b""
            # A terminal whose master is gone says EIO.
            with suppress(OSError):
                data = os.read(fd, 4096)
            if not data:
                return
            os.write(1, data)
        if 0 in found:
            data = os.read(0, 4096)
            if LEAVE in data:
                os.write(fd, data.partition(LEAVE)[0])
                return
            if not data:
                sources = [fd]
                continue
            os.write(fd, data)


COMMANDS = {
    "create": Command(
        _create,
        "create [-p] [-c] [-n] [-q] <[-f] ConfigFile> [key=value ...]",
        "Create a domain from config file <filename>",
    ),
    "console": Command(
        _console,
        "console [-t pv] [-n 0] <Domain>",
        "Attach to domain's console",
    ),
}
