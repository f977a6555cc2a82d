# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons without systemd: find or start, watch, and restart each."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from xenner.errors import HostError
from xenner.listening import listener_of
from xennerd.supervisor.backoff import Backoff
from xennerd.supervisor.processes import Watched
from xennerd.supervisor.programs import Program

_READY_LIMIT_S = 30.0
_READY_LOOK_S = 0.02
_STOP_LIMIT_S = 10.0
# In the environment of each daemon, so that the next xennerd recognizes it.
_MARK = "XENNERD_DAEMON"

_log = logging.getLogger("xennerd")


@dataclass(slots=True)
class State:
    """A daemon's state. `nr_restarts` counts restarts by this xennerd."""

    name: str
    pid: int = 0
    nr_restarts: int = 0


class Daemon:
    """One program, kept running.

    It outlives xennerd: the next xennerd finds it by its socket.
    """

    def __init__(
        self,
        program: Program,
        *,
        environment: Mapping[str, str],
        on_change: Callable[[State], None],
    ) -> None:
        self._program = program
        self._environment = environment
        self._on_change = on_change
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: Watched | None = None
        self.state = State(program.name)

    async def keep_running(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Restart the daemon whenever it ends, until cancelled; the daemon runs
        on then. HostError: the first start fails."""
        backoff = Backoff()
        is_first = True
        while True:
            began_s = trio.current_time()
            try:
                await self._find_or_start()
            except HostError as error:
                if is_first:
                    raise
                _log.error("%s", error)
            else:
                if is_first:
                    task_status.started()
                is_first = False
                await self._wait_ended()
            await trio.sleep(backoff.delay_s(trio.current_time() - began_s))
            self.state.nr_restarts += 1

    async def stop(self) -> None:
        """End the daemon if an xennerd started it, with SIGKILL after a time
        limit. keep_running() must have returned."""
        watched = self._watched
        if watched is None or not _runs(watched.pid, self._program):
            return
        watched.signal(signal.SIGTERM)
        with trio.move_on_after(_STOP_LIMIT_S) as scope:
            await watched.wait_ended()
        if scope.cancelled_caught:
            _log.warning("%s does not end: killed", self._program.name)
            watched.signal(signal.SIGKILL)
            await watched.wait_ended()
        self._reap()

    async def _find_or_start(self) -> None:
        program = self._program
        pid = listener_of(program.socket_path, program.socket_kind)
        if pid is None:
            # Not trio's run_process(), which waits: the daemon may outlive us.
            self._child = subprocess.Popen(  # noqa: ASYNC220
                program.argv,
                env={**self._environment, _MARK: program.name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # The terminal's signals are for xennerd alone.
                start_new_session=True,
            )
            pid = self._child.pid
            await self._wait_ready(self._child)
        try:
            self._watched = Watched(pid)
        except ProcessLookupError:
            raise HostError(f"{program.name} ended as it was found") from None
        self.state.pid = pid
        self._on_change(self.state)

    async def _wait_ready(self, child: subprocess.Popen[bytes]) -> None:
        program = self._program
        with trio.move_on_after(_READY_LIMIT_S):
            while child.poll() is None:
                if (
                    listener_of(program.socket_path, program.socket_kind)
                    is not None
                ):
                    return
                await trio.sleep(_READY_LOOK_S)
        if child.poll() is None:
            child.kill()
        status = child.wait()
        raise HostError(f"{program.name} does not start: status {status}")

    async def _wait_ended(self) -> None:
        assert self._watched is not None
        await self._watched.wait_ended()
        status = self._reap()
        _log.warning("%s has ended%s", self._program.name, status)
        self.state.pid = 0
        self._on_change(self.state)

    def _reap(self) -> str:
        """The exit status as text; empty if it was not our child."""
        if self._watched is not None:
            self._watched.close()
            self._watched = None
        if self._child is None:
            return ""
        status, self._child = self._child.wait(), None
        return f": status {status}"


async def stop_all(daemons: Sequence[Daemon]) -> None:
    """Stop in reverse order: a daemon ends before those that it needs."""
    for daemon in reversed(daemons):
        await daemon.stop()


def _runs(pid: int, program: Program) -> bool:
    """Did an xennerd start that process? Only then may xennerd end it. The
    command line does not tell: the store may have executed another program, a
    real xenstored."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(f"{_MARK}={program.name}") in words
