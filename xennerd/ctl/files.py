# SPDX-License-Identifier: GPL-2.0-or-later
"""check: what is read in a domain file."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from xenner.errors import ConfigError
from xenner.settings import PATH, load_settings, read_settings
from xenner.xlcfg import DomainConfig
from xennerd.ctl.command import Add, Command, add_json, own_name
from xennerd.domain.file import read_config


def warn(config: DomainConfig) -> None:
    """Tell the person what was not understood."""
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _declare_check(add: Add) -> None:
    add_json(add)
    add("file", type=Path, nargs="+", metavar="FILE")


def _check(arguments: Namespace) -> int:
    shown, status = [], 0
    for path in arguments.file:
        try:
            config = read_config(path)
        except ConfigError as error:
            # The others are looked at all the same.
            print(f"{own_name()}: {error}", file=sys.stderr)
            status = 2
            continue
        warn(config)
        shown.append(config)
        if not arguments.json:
            print(
                f"{path}: {config.name}: {config.memory_mib} MiB, "
                f"{config.nr_vcpus} vCPUs, {len(config.disks)} disks, "
                f"{len(config.vifs)} interfaces"
            )
    if arguments.json:
        found = [asdict(config) for config in shown]
        # Of one file it, of several a list.
        value = found if len(arguments.file) > 1 else found[0] if found else {}
        print(json.dumps(value, default=_plain, indent=4))
    return status


def _declare_check_config(add: Add) -> None:
    add("--json", action="store_true", help="show what counts")
    add("file", type=Path, nargs="?", metavar="FILE", help=f"default: {PATH}")


def _check_config(arguments: Namespace) -> int:
    try:
        path = arguments.file
        settings = read_settings(path) if path else load_settings()
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=path) from None
    if arguments.json:
        print(json.dumps(asdict(settings), indent=4))
    return 0


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


COMMANDS = {
    "check": Command(
        _check, _declare_check, "Read domain files, start nothing"
    ),
    "check-config": Command(
        _check_config, _declare_check_config, "Read the daemons' settings"
    ),
}
