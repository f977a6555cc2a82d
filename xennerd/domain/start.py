# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-start`: run the guest of a domain file in this process.

Units and xennerd run this program. The process is the VM process and ends with
the guest. The exit status says whether to start again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from xenner.errors import ConfigError, HostError
from xenner.paths import (
    CONFIG_DIR,
    DUMP_DIR,
    check_runtime_dir,
    evtchnd_path,
    make_runtime_dir,
    monitor_path,
    runtime_dir_of,
    written_config_dir,
    xenstore_of,
)
from xenner.settings import Console, GuestSettings, load_settings
from xenner.types import MAX_DOMID, Domid
from xenner.vmcorelocks import find_free_domid
from xenner.xlcfg import DomainConfig
from xenner.xlcpus import HostCpus, parse_cpus
from xenner.xlsyntax import quoted
from xennerd.domain.file import config_of, read_text
from xennerd.domain.hotplug import with_hotplug
from xennerd.domain.lifecycle import (
    FileLifecyclePolicy,
    check_others,
    killed_domid,
    killed_in_unit,
    planned_record,
)
from xennerd.domain.pausing import is_pause_requested, pause_path
from xennerd.domain.records import Record, read_record
from xennerd.domain.resources import limit_properties, without_limits
from xennerd.units.manager import instance_of, unit_of
from xennerd.vm.options import Options
from xennerd.vm.session import run_session

_MODULE = "xennerd.domain.start"
_DEFAULT = GuestSettings()


def config_path(instance: str, *, runtime_dir: Path) -> Path:
    """The file of a unit's instance: the operator's, or the one that xennerd
    wrote. An instance with a slash is a path itself."""
    if "/" in instance:
        return Path(instance)
    path = CONFIG_DIR / f"{instance}.cfg"
    own = written_config_dir(runtime_dir) / path.name
    return own if own.exists() and not path.exists() else path


def options_for(
    config: DomainConfig,
    domid: Domid,
    *,
    runtime_dir: Path,
    evtchnd: Path,
    xenstore: Path,
    handle: uuid.UUID,
    is_stopped: bool = False,
    guests: GuestSettings = _DEFAULT,
) -> Options:
    """What the VM process is asked for. Pure."""
    return Options(
        kernel=Path(config.kernel),
        initrd=Path(config.ramdisk) if config.ramdisk else None,
        append=config.cmdline,
        memory_bytes=config.memory_mib << 20,
        max_memory_bytes=config.maxmem_mib << 20,
        nr_vcpus=config.nr_vcpus,
        name=config.name,
        handle=handle,
        domid=domid,
        serial=_serial(guests),
        monitor=f"unix:{monitor_path(runtime_dir, domid)}",
        is_stopped=is_stopped,
        runtime_dir=runtime_dir,
        evtchnd=evtchnd,
        xenstore=xenstore,
        disks=config.disks,
        vifs=config.vifs,
        wait_devices_s=config.wait_devices_s,
    )


def _serial(guests: GuestSettings) -> str:
    if guests.console is Console.XENCONSOLED:
        return "xenconsoled"
    return "pty,log" if guests.console_to_journal else "pty"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("xenner-start", description=__doc__)
    add = parser.add_argument
    add("instance", help="domid or name of a file in /etc/xenner, or a path")
    add("--domid", type=int, help="default: the instance, or one that is free")
    add("--name", help="instead of the file's")
    add("--set", default="", metavar="TEXT", help="settings that win")
    add("--stdin", action="store_true", help="the file's text is there")
    add("--again", action="store_true", help="as --domid was started before")
    add("--limits", action="store_true", help="set the unit's limits only")
    add("--paused", action="store_true", help="wait for the monitor's cont")
    add("--unit", default="", help="the unit of systemd's that runs it")
    add("--runtime-dir", type=Path, default=runtime_dir_of(os.environ))
    add("--dump-dir", type=Path, default=DUMP_DIR)
    add("--evtchnd", type=Path, help="default: that of the runtime directory")
    add("--xenstore", type=Path, default=xenstore_of(os.environ))
    return parser


def run(argv: Sequence[str] | None, *, started_at: float) -> int:
    """Run the guest to its end; raises ConfigError, HostError."""
    arguments = _parser().parse_args(argv)
    check_runtime_dir(arguments.runtime_dir)
    if arguments.evtchnd is None:
        arguments.evtchnd = evtchnd_path(arguments.runtime_dir)
    path = config_path(arguments.instance, runtime_dir=arguments.runtime_dir)
    extra, text = arguments.set, None
    if arguments.unit and not instance_of(arguments.unit):
        raise ConfigError(f"--unit {arguments.unit}: no unit of a guest")
    before = _restarted_record(arguments)
    if before is not None and before.pid == os.getpid():
        # An older version may have executed us without --unit.
        arguments.unit = before.unit
    if before is not None:
        path, extra, text = Path(before.file), before.settings, before.text
    elif arguments.stdin:
        text = sys.stdin.buffer.read().decode(errors="surrogateescape")
    if text is None:
        text = read_text(path)
    if arguments.name:
        extra += f"\nname={quoted(arguments.name)}"
    config = config_of(text, path, extra=extra)
    if arguments.limits:
        _set_limits(arguments.instance, config)
        return 0
    for warning in config.warnings:
        print(f"xenner-start: warning: {warning}", file=sys.stderr)
    if not arguments.unit and (warning := without_limits(config)):
        print(f"xenner-start: warning: {warning}", file=sys.stderr)
    _make_runtime_dir(arguments.runtime_dir)
    domid = before.domid if before else _choose_domid(arguments, config.name)
    record = planned_record(
        config,
        domid,
        runtime_dir=arguments.runtime_dir,
        file=path.absolute(),
        text=text,
        settings=extra,
        unit=arguments.unit,
    )
    check_others(arguments.runtime_dir, record)
    options = options_for(
        with_hotplug(config, record.plugged),
        domid,
        runtime_dir=arguments.runtime_dir,
        evtchnd=arguments.evtchnd,
        xenstore=arguments.xenstore,
        handle=uuid.UUID(record.handle),
        is_stopped=_starts_paused(arguments),
        guests=load_settings().guests,
    )
    lifecycle = FileLifecyclePolicy(
        config,
        record,
        runtime_dir=arguments.runtime_dir,
        dump_dir=arguments.dump_dir,
    )
    try:
        status = run_session(
            options, started_at=started_at, lifecycle=lifecycle
        )
    finally:
        lifecycle.close()
    if lifecycle.needs_reexec:
        _reexec(arguments, lifecycle.record)
    return 1 if lifecycle.hits_start_limit else status


def _restarted_record(arguments: argparse.Namespace) -> Record | None:
    """The record of the domain that this start restarts; None: a new domain.
    HostError: --again without a record."""
    runtime_dir = arguments.runtime_dir
    if not arguments.again:
        if arguments.domid is not None:
            return None
        return killed_in_unit(runtime_dir, arguments.unit)
    record = read_record(runtime_dir, arguments.domid)
    if record is None:
        raise HostError(f"nothing is known of a domain {arguments.domid}")
    return record


def _starts_paused(arguments: argparse.Namespace) -> bool:
    """By the option; for a unit, by xennerd's lock file."""
    instance = arguments.instance
    return bool(arguments.paused) or (
        "/" not in instance
        and is_pause_requested(pause_path(arguments.runtime_dir, instance))
    )


def _choose_domid(arguments: argparse.Namespace, name: str) -> Domid:
    if arguments.domid is not None:
        return _checked_domid(arguments.domid)
    instance = arguments.instance
    if instance.isascii() and instance.isdecimal():
        return _checked_domid(int(instance))
    runtime_dir = arguments.runtime_dir
    return killed_domid(runtime_dir, name) or find_free_domid(runtime_dir)


def _checked_domid(number: int) -> Domid:
    """ConfigError: no domain can have that number."""
    if not 1 <= number <= MAX_DOMID:
        raise ConfigError(f"domid {number}: must be 1 to {MAX_DOMID}")
    return Domid(number)


def _make_runtime_dir(path: Path) -> None:
    """HostError: there is none, and it cannot be created."""
    try:
        make_runtime_dir(path, with_parents=True)
    except OSError as error:
        raise HostError(
            f"cannot use the runtime directory {path}: {error.strerror}"
        ) from error


def _reexec(arguments: argparse.Namespace, record: Record) -> None:
    """Execute this program again. The process stays the same, so it stays the
    service manager's main process."""
    options = {
        "--domid": record.domid,
        "--runtime-dir": arguments.runtime_dir,
        "--dump-dir": arguments.dump_dir,
        "--evtchnd": arguments.evtchnd,
        "--xenstore": arguments.xenstore,
        "--unit": arguments.unit,
    }
    argv = [f"{name}={value}" for name, value in options.items()]
    os.execv(
        sys.executable,
        [sys.executable, "-m", _MODULE, "--again", *argv, record.file],
    )


def _host_cpus() -> HostCpus:
    nodes = {}
    for path in Path("/sys/devices/system/node").glob("node[0-9]*"):
        text = (path / "cpulist").read_text().strip()
        # The kernel's format is that of a domain file; a node may have no CPU.
        steps = parse_cpus(text) if text else ()
        cpus = frozenset(n for step in steps for n in step.numbers or ())
        nodes[int(path.name.removeprefix("node"))] = cpus
    online = Path("/sys/devices/system/cpu/online").read_text().strip()
    steps = parse_cpus(online)
    cpus = frozenset(n for step in steps for n in step.numbers or ())
    return HostCpus(cpus, nodes)


def _set_limits(instance: str, config: DomainConfig) -> None:
    """Set the limits of the instance's unit until the host reboots. HostError:
    systemd refuses.

    The unit has no slice of its own: web-2's would be inside web's
    (systemd.slice(5)) and share its limits.
    """
    try:
        properties = limit_properties(config, _host_cpus())
    except ValueError as error:
        raise HostError(f"cpus: {error}") from None
    done = subprocess.run(
        [
            *("systemctl", "set-property", "--runtime"),
            unit_of(instance),
            *(f"{name}={value}" for name, value in properties.items()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HostError(f"limits: {done.stderr.strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    started_at = time.monotonic()
    try:
        return run(arguments, started_at=started_at)
    except ConfigError as error:
        print(f"xenner-start: {error}", file=sys.stderr)
        return 2
    except HostError as error:
        print(f"xenner-start: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
