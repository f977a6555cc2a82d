# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor: QMP on a Unix socket or stdio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from xennerd.qmp.server import MAX_CLIENTS, serve_channel, serve_stream
from xennerd.vm.console.console import FdSink, listen_unix
from xennerd.vm.monitor.commands import Controls


async def serve_monitor(
    spec: str,
    controls: Controls,
    *,
    link: Path | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `spec`: none, stdio or unix:PATH, until cancelled.

    A socket's path is also where the symbolic link `link` leads.
    """
    kind, _, rest = spec.partition(":")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(controls.serve_balloon_events)
        if kind == "unix":
            path = Path(rest.split(",")[0])
            serve = partial(serve_stream, commands=controls)
            async with listen_unix(path, backlog=MAX_CLIENTS) as listener:
                with _linked(link, path):
                    task_status.started()
                    await trio.serve_listeners(serve, [listener])
        task_status.started()
        if kind == "stdio":
            await serve_channel(FdSink(1, 0, leave=False), controls)
        nursery.cancel_scope.cancel()


@contextmanager
def _linked(link: Path | None, path: Path) -> Iterator[None]:
    """Where tools find the monitor of a domain by its number."""
    target = path.absolute()
    if link is None or link.absolute() == target:
        yield
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    try:
        yield
    finally:
        link.unlink(missing_ok=True)
