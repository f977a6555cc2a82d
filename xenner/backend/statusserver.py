# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's end of `DAEMON --status`: see status.py."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from xenner.backend.status import Counters
from xenner.errors import HostError
from xenner.listening import listen_at

_LIMIT_S = 5.0


async def serve_status(
    path: Path,
    read: Callable[[], Counters],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. HostError: the socket cannot be made, or there
    is another daemon of the kind, whose devices it has."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        listener = listen_at(path, mode=0o600, backlog=8)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostError(
                f"somebody listens on {path} already", "end that one first"
            ) from error
        raise HostError(f"{path}: {error.strerror or error}") from error
    task_status.started()
    with trio.socket.from_stdlib_socket(listener) as stream:
        try:
            await trio.serve_listeners(
                partial(_answer, read), [trio.SocketListener(stream)]
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
