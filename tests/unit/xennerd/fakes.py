# SPDX-License-Identifier: GPL-2.0-or-later
"""Stand-ins for what surrounds xennerd's domains."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from xenner.xlcfg import Action
from xennerd.domain.policy import Verdict
from xennerd.domain.records import Record
from xennerd.supervisor.launcher import StartRequest


class Nobody:
    """Starts nothing, tells nothing."""

    def start(self, request: StartRequest) -> None:
        raise AssertionError(request)

    def was_stop_requested(self, record: Record) -> bool:
        return False

    def forget(self, record: Record) -> None:
        pass

    def __call__(self, *arguments: object, **more: object) -> None:
        pass


class CrashHandler:
    """Holds the domain's memory until it is told to let go."""

    def __init__(self, vmcore: Path) -> None:
        self._vmcore = vmcore
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def handle(self, record: Record, *, is_stop_requested: bool) -> Verdict:
        with self._vmcore.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.has_begun.set()
            self.may_end.wait()
        return Verdict(Action.DESTROY)
