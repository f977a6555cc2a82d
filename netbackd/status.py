# SPDX-License-Identifier: GPL-2.0-or-later
"""`netbackd --status`: what each vif has moved. The daemon writes one JSON
document to whoever connects to its socket, and closes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import trio

from xenner.errors import HostError

_LIMIT_S = 5.0

Counters = Mapping[str, Mapping[str, int]]
"""Of each device, by its path, by the names of struct net_statistics."""


def socket_path() -> Path:
    """netbackd.socket of the runtime directory."""
    runtime = os.environ.get("XENNER_RUNTIME_DIR") or "/run/xenner"
    return Path(runtime) / "netbackd.socket"


async def serve_status(
    read: Callable[[], Counters],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. HostError: the socket cannot be made."""
    path = socket_path()
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            # That of one which was killed; two at a time there are not.
            path.unlink(missing_ok=True)
            await listener.bind(str(path))
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
        path.chmod(0o600)
        listener.listen(8)
        task_status.started()
        try:
            await trio.serve_listeners(
                partial(_answer, read), [trio.SocketListener(listener)]
            )
        finally:
            path.unlink(missing_ok=True)


async def _answer(
    read: Callable[[], Counters], stream: trio.SocketStream
) -> None:
    text = json.dumps({path: dict(row) for path, row in read().items()})
    with trio.move_on_after(_LIMIT_S):
        try:
            await stream.send_all(text.encode())
        except trio.BrokenResourceError:
            return  # It has not waited.


def fetch_status() -> Counters:
    """Ask the running daemon. HostError: there is none. Blocks."""
    path = socket_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_LIMIT_S)
        try:
            client.connect(str(path))
            parts = list(iter(partial(client.recv, 65536), b""))
        except OSError as error:
            raise HostError(
                f"{path}: {error.strerror or error}", "is netbackd running?"
            ) from error
    counters: Counters = json.loads(b"".join(parts))
    return counters


def to_table(counters: Counters) -> str:
    """For people: a vif a line."""
    names = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
    names_bad = ("tx_refused", "tx_dropped", "rx_dropped", "rx_starved")
    columns = (*names, *names_bad, "tx_throttled")
    lines = [f"{'vif':10}" + "".join(f"{name:>14}" for name in columns)]
    for path, row in sorted(counters.items()):
        vif = "vif{}.{}".format(*path.split("/")[-2:])
        cells = "".join(f"{row.get(name, 0):>14}" for name in columns)
        lines.append(f"{vif:10}{cells}")
    return "\n".join(lines)


def to_prometheus(counters: Counters) -> str:
    """The text format of Prometheus, version 0.0.4."""
    names = sorted({name for row in counters.values() for name in row})
    lines = []
    for name in names:
        lines.append(f"# TYPE netbackd_{name}_total counter")
        for path, row in sorted(counters.items()):
            domid, devid = path.split("/")[-2:]
            labels = f'domid="{domid}",devid="{devid}"'
            lines.append(f"netbackd_{name}_total{{{labels}}} {row[name]}")
    return "\n".join(lines)
