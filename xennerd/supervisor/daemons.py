# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons by hand: each is found or started, watched, started again."""

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
# In the environment of what we start, so that the next of us knows it.
_MARK = "XENNERD_DAEMON"

_log = logging.getLogger("xennerd")


@dataclass(slots=True)
class State:
    """How a daemon is. `nr_restarts`: by us."""

    name: str
    pid: int = 0
    nr_restarts: int = 0


class Daemon:
    """One program, kept running.

    It survives us: the next xennerd finds it by its socket.
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
        """Until cancelled, which leaves it running. HostError: it does not
        even start."""
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
        """End it, by force if it does not; one that an xennerd started, that
        is. Nobody may be in keep_running() any more."""
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
        pid = listener_of(program.door, program.kind)
        if pid is None:
            # It may outlive us, so trio's own, which is waited for, is not it.
            self._child = subprocess.Popen(  # noqa: ASYNC220
                program.words,
                env={**self._environment, _MARK: program.name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A signal of the terminal is ours alone.
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
                if listener_of(program.door, program.kind) is not None:
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
        """What is known of its end: nothing if it was not our child."""
        if self._watched is not None:
            self._watched.close()
            self._watched = None
        if self._child is None:
            return ""
        status, self._child = self._child.wait(), None
        return f": status {status}"


async def stop_all(daemons: Sequence[Daemon]) -> None:
    """In reverse order: who needs another one ends first."""
    for daemon in reversed(daemons):
        await daemon.stop()


def _runs(pid: int, program: Program) -> bool:
    """Has an xennerd started that process? A service manager's, or
    somebody's who listens for it, is not ours to end. The store may have
    become another program meanwhile, a real xenstored."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(f"{_MARK}={program.name}") in words
