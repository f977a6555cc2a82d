# SPDX-License-Identifier: GPL-2.0-or-later
"""`DAEMON --status`: what each device has moved. The daemon writes one JSON
document to whoever connects to its socket, and closes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from xenner.errors import HostError

_LIMIT_S = 5.0

Counters = Mapping[str, Mapping[str, int]]
"""Of each device, by its path, by the names of its engine's statistics."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a daemon's counters are shown."""

    daemon: str
    kind: str
    """Of the devices: "vbd", "vif"."""
    columns: Sequence[str]
    """The counters for people."""


def socket_path(daemon: str) -> Path:
    """DAEMON.socket of the runtime directory."""
    runtime = os.environ.get("XENNER_RUNTIME_DIR") or "/run/xenner"
    return Path(runtime) / f"{daemon}.socket"


async def serve_status(
    path: Path,
    read: Callable[[], Counters],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. HostError: the socket cannot be made."""
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            # That of one which was killed; two at a time there are not.
            path.parent.mkdir(parents=True, exist_ok=True)
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
        cells = "".join(f"{row.get(name, 0):>14}" for name in form.columns)
        lines.append(f"{device:12}{cells}")
    return "\n".join(lines)


def to_prometheus(counters: Counters, form: Form) -> str:
    """The text format of Prometheus, version 0.0.4."""
    names = sorted({name for row in counters.values() for name in row})
    lines = []
    for name in names:
        full = f"{form.daemon}_{name}_total"
        lines.append(f"# TYPE {full} counter")
        for path, row in sorted(counters.items()):
            if name in row:
                domid, devid = path.split("/")[-2:]
                labels = f'domid="{domid}",devid="{devid}"'
                lines.append(f"{full}{{{labels}}} {row[name]}")
    return "\n".join(lines)
