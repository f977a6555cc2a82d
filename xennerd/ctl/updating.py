# SPDX-License-Identifier: GPL-2.0-or-later
"""mem-max, config-update: what a domain may have, now and from its next
start on."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import Paths
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.ctl.acting import declare_size, parse_mib
from xennerd.ctl.command import Add, Command, add_domain
from xennerd.ctl.creating import add_source, from_here, source_of
from xennerd.ctl.domains import find_domain
from xennerd.ctl.files import warn
from xennerd.domain.file import config_of, read_text
from xennerd.domain.records import Record, change_record
from xennerd.nodes.guest import domain_path
from xennerd.qmp.client import QmpClient


def _mem_max(arguments: Namespace) -> int:
    paths = Paths.of(os.environ)
    domain = find_domain(paths, arguments.domain)
    size_mib = parse_mib(arguments.size)
    top = f"{domain_path(domain.domid)}/memory"
    try:
        with Xenstore(paths.xenstore) as store:
            # libxl's rule: what the guest is to have now it may have.
            target_mib = int(store.read(f"{top}/target")) >> 10
            if not target_mib <= size_mib <= domain.max_memory_mib:
                raise HostError(
                    f"{domain.name}: between its target, {target_mib} MiB, and "
                    f"what it was started with, {domain.max_memory_mib} MiB"
                )
            with QmpClient(paths.monitor(domain.domid)) as monitor:
                monitor.execute("x-xenner-memory-limit", value=size_mib << 20)
            store.write(f"{top}/static-max", str(size_mib << 10))
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error
    return 0


def _declare_config_update(add: Add) -> None:
    add("-d", "--debug", action="store_true", help="no effect")
    add_domain(add)
    add_source(add)


def _config_update(arguments: Namespace) -> int:
    source = source_of(arguments.words, defconfig=arguments.defconfig)
    paths = Paths.of(os.environ)
    domain = find_domain(paths, arguments.domain)
    extra, path = source.settings, source.file.absolute()
    text = read_text(path)
    config = config_of(text, path, extra=extra)
    warn(config)
    extra = "\n".join((extra, *from_here(config, Path.cwd()))).strip()

    def updated(record: Record) -> Record:
        if config.name != record.name:
            raise HostError(
                f"{source.file} is of {config.name!r}, not of {record.name!r}"
            )
        # As libxl's: the file is all, with what was plugged in or without.
        return replace(
            record, file=str(path), text=text, settings=extra, plugged=()
        )

    if change_record(paths.runtime_dir, domain.domid, updated) is None:
        raise HostError(
            f"{domain.name}: was started without a domain file",
            "it has no configuration that could be used again",
        )
    return 0


COMMANDS = {
    "mem-max": Command(
        _mem_max,
        declare_size,
        "Set the maximum amount reserved for a domain",
    ),
    "config-update": Command(
        _config_update,
        _declare_config_update,
        "Update a running domain's saved configuration, used when it is "
        "started again",
    ),
}
