# SPDX-License-Identifier: GPL-2.0-or-later
"""top: what domains use, again and again, in xentop's columns."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from xenner.backend.status import Counters, fetch_status
from xenner.errors import ConfigError, HostError
from xenner.paths import Paths
from xennerd.ctl.command import Add, Command
from xennerd.ctl.domains import Domain, dom0, list_domains

_SECTOR_BYTES = 512
# Name, width and how a row's value stands there: tools/xentop/xentop.c of Xen.
_COLUMNS: tuple[tuple[str, int, str], ...] = (
    ("NAME", 10, ""),
    ("STATE", 6, ""),
    ("CPU(sec)", 10, ".0f"),
    ("CPU(%)", 6, ".1f"),
    ("MEM(k)", 10, "d"),
    ("MEM(%)", 6, ".1f"),
    ("MAXMEM(k)", 10, "d"),
    ("MAXMEM(%)", 9, ".1f"),
    ("VCPUS", 5, "d"),
    ("NETS", 4, "d"),
    ("NETTX(k)", 8, "d"),
    ("NETRX(k)", 8, "d"),
    ("VBDS", 4, "d"),
    ("VBD_OO", 8, "d"),
    ("VBD_RD", 8, "d"),
    ("VBD_WR", 8, "d"),
    ("VBD_RSECT", 10, "d"),
    ("VBD_WSECT", 10, "d"),
    ("SSID", 4, "d"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A domain. Percents of time are of one CPU, those of memory of the
    host's; traffic is as the guest sees it, KiB; `vbd_oo` counts requests
    that waited for a limit; `state` is as in `list`."""

    name: str
    state: str
    cpu_s: float
    cpu_percent: float
    memory_kib: int
    memory_percent: float
    max_memory_kib: int
    max_memory_percent: float
    nr_vcpus: int
    nr_vifs: int
    tx_kib: int
    rx_kib: int
    nr_vbds: int
    vbd_oo: int
    vbd_reads: int
    vbd_writes: int
    vbd_read_sectors: int
    vbd_write_sectors: int
    ssid: int = 0
    """Of Xen's security module, which there is none of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """All that is known at one moment, `at_s` on a clock that only goes
    on."""

    at_s: float
    domains: tuple[Domain, ...]
    vbds: Counters
    vifs: Counters


def take_sample(paths: Paths) -> Sample:
    """Ask everybody; a backend that does not run serves no devices."""
    guests = list_domains(paths)
    return Sample(
        time.monotonic(),
        (dom0(guests), *guests),
        _counters("blkbackd"),
        _counters("netbackd"),
    )


def _counters(daemon: str) -> Counters:
    with suppress(HostError):
        return fetch_status(daemon)
    return {}


def rows(before: Sample | None, now: Sample) -> list[Row]:
    """Pure. Without an earlier sample nobody has used a CPU meanwhile."""
    host_mib = max(1, now.domains[0].max_memory_mib)
    used_s = {d.domid: d.cpu_s for d in before.domains} if before else {}
    length_s = max(now.at_s - before.at_s, 1e-3) if before else 1.0
    found = []
    for domain in now.domains:
        # A guest that has rebooted begins with none.
        since_s = max(
            0.0, domain.cpu_s - used_s.get(domain.domid, domain.cpu_s)
        )
        vbds = _of(now.vbds, domain.domid)
        vifs = _of(now.vifs, domain.domid)
        found.append(
            Row(
                name=domain.name,
                state=domain.state,
                cpu_s=domain.cpu_s,
                cpu_percent=100 * since_s / length_s,
                memory_kib=domain.memory_mib << 10,
                memory_percent=100 * domain.memory_mib / host_mib,
                max_memory_kib=domain.max_memory_mib << 10,
                max_memory_percent=100 * domain.max_memory_mib / host_mib,
                nr_vcpus=len(domain.vcpus),
                nr_vifs=len(vifs),
                tx_kib=_sum(vifs, "tx_bytes") >> 10,
                rx_kib=_sum(vifs, "rx_bytes") >> 10,
                nr_vbds=len(vbds),
                vbd_oo=_sum(vbds, "throttled"),
                vbd_reads=_sum(vbds, "reads"),
                vbd_writes=_sum(vbds, "writes"),
                vbd_read_sectors=_sum(vbds, "read_bytes") // _SECTOR_BYTES,
                vbd_write_sectors=_sum(vbds, "write_bytes") // _SECTOR_BYTES,
            )
        )
    return found


def _of(counters: Counters, domid: int) -> list[Mapping[str, object]]:
    """Those of one domain: a device's path is backend/KIND/DOMID/DEVID."""
    return [
        row
        for path, row in counters.items()
        if path.split("/")[2:3] == [str(domid)]
    ]


def _sum(devices: Iterable[Mapping[str, object]], name: str) -> int:
    values = (row.get(name, 0) for row in devices)
    return sum(int(value) for value in values if isinstance(value, int | float))


def xentop_state(state: str) -> str:
    """Of xl's letters, rbps?d, where ? says why it was shut down, those in
    xentop's order: dying, shut down, blocked, crashed, paused, running."""
    running, blocked, paused, shut_down, why, dying = tuple(state)
    crashed = why if why == "c" else "-"
    return dying + shut_down + blocked + crashed + paused + running


def lines(found: Iterable[Row]) -> Iterator[str]:
    """The table. Pure."""
    yield " ".join(f"{name:>{width}}" for name, width, _form in _COLUMNS)
    for row in found:
        values = asdict(replace(row, state=xentop_state(row.state))).values()
        yield " ".join(
            f"{value:>{width}{form}}"
            for value, (_name, width, form) in zip(
                values, _COLUMNS, strict=True
            )
        )


def _declare(add: Add) -> None:
    add("-b", "--batch", action="store_true", help="no screen: table by table")
    add("-i", "--iterations", type=int, default=0, help="end after so many")
    add("-d", "--delay", type=float, default=3.0, help="seconds between them")
    add("--json", action="store_true", help="a line of JSON each time")
    # Names are whole and domain 0 is the first anyway.
    add("-f", "--full-name", action="store_true", help="no effect")
    add("-z", "--dom0-first", action="store_true", help="no effect")


def _top(arguments: Namespace) -> int:
    if arguments.delay <= 0 or arguments.iterations < 0:
        raise ConfigError("top: a delay and iterations are above zero")
    measured = _measured(Paths.of(os.environ))
    is_screen = not (arguments.batch or arguments.json)
    if is_screen and os.isatty(0) and os.isatty(1):
        from xennerd.ctl import topscreen

        topscreen.show(
            (list(lines(found)) for found in measured),
            delay_s=arguments.delay,
            iterations=arguments.iterations,
        )
        return 0
    for nr_shown, found in enumerate(measured, 1):
        if arguments.json:
            print(json.dumps([asdict(row) for row in found]), flush=True)
        else:
            print("\n".join(lines(found)), flush=True)
        if nr_shown == arguments.iterations or _is_interrupted(arguments.delay):
            break
    return 0


def _is_interrupted(delay_s: float) -> bool:
    """Wait for the next table, or Ctrl-C."""
    try:
        time.sleep(delay_s)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return True
    return False


def _measured(paths: Paths) -> Iterator[list[Row]]:
    """All domains, again each time."""
    before = None
    while True:
        sample = take_sample(paths)
        yield rows(before, sample)
        before = sample


COMMANDS = {
    "top": Command(
        _top,
        _declare,
        "Monitor a host and its domains in real time",
    ),
}
