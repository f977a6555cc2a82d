# SPDX-License-Identifier: GPL-2.0-or-later
"""`DAEMON --status`: what each device has moved. The daemon writes one JSON
document to whoever connects to its socket, and closes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import Paths

_LIMIT_S = 5.0

Value = int | Sequence[int]
"""A number; or a histogram of microseconds: of the values those below 1, 2, 4
and so on, and all others in the last place."""

Counters = Mapping[str, Mapping[str, Value]]
"""Of each device, by its path, by the names of its engine's statistics."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a daemon's counters are shown."""

    daemon: str
    kind: str
    """Of the devices: "vbd", "vif"."""
    columns: Sequence[str]
    """The counters for people."""
    gauges: Sequence[str] = ()
    """Those that may also fall."""


def socket_path(daemon: str) -> Path:
    """DAEMON.socket of the runtime directory. HostError: that is no good."""
    return Paths.of(os.environ).backend(daemon)


def fetch_status(daemon: str) -> Counters:
    """Ask the running daemon. HostError: there is none. Blocks."""
    path = socket_path(daemon)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_LIMIT_S)
        try:
            client.connect(str(path))
            parts = list(iter(partial(client.recv, 65536), b""))
        except OSError as error:
            raise HostError(
                f"{path}: {error.strerror or error}", f"is {daemon} running?"
            ) from error
    counters: Counters = json.loads(b"".join(parts))
    return counters


def to_table(counters: Counters, form: Form) -> str:
    """For people: a device a line."""
    heads = "".join(f"{name:>14}" for name in form.columns)
    lines = [f"{form.kind:12}{heads}"]
    for path, row in sorted(counters.items()):
        device = "{}{}.{}".format(form.kind, *path.split("/")[-2:])
        cells = "".join(f"{_cell(row, name):>14}" for name in form.columns)
        lines.append(f"{device:12}{cells}")
    return "\n".join(lines)


def _cell(row: Mapping[str, Value], name: str) -> str:
    """A counter; of a histogram the median and the 99th percentile in us."""
    value = row.get(name, 0)
    if isinstance(value, int):
        return str(value)
    return f"{_below_us(value, 0.5)}/{_below_us(value, 0.99)}"


def _below_us(histogram: Sequence[int], share: float) -> int:
    """The bound of a histogram's place below which so many are; 0: of none."""
    sums = list(accumulate(histogram))
    if not sums[-1]:
        return 0
    return 1 << next(i for i, n in enumerate(sums) if n >= share * sums[-1])
