# SPDX-License-Identifier: GPL-2.0-or-later
"""The shell of a guest that a unit runs, at its console's terminal."""

from __future__ import annotations

import os
import select
import time
from itertools import count
from pathlib import Path

import pytest

from tests.environments.rules import limit_s

# How often it is asked whether a shell is there.
_ASK_S = 2.0


class Terminal:
    """An open console; what it says is read while something is waited for."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._said = ""
        self._marks = count()

    def close(self) -> None:
        os.close(self._fd)

    def wait_shell(self, timeout_s: float = 60) -> None:
        """Until it answers. What is typed before stays for it to read."""
        end = time.monotonic() + limit_s(timeout_s)
        while True:
            self._type("echo HERE''-")
            if self._comes("HERE-", limit_s(_ASK_S)):
                break
            if time.monotonic() > end:
                pytest.fail(f"no shell: {self._said}")
        # Answers to what was asked meanwhile are none to what comes now.
        self.do("true")

    def do(self, command: str, timeout_s: float = 30) -> str:
        """What a command says, that must succeed."""
        mark = f"DONE-{next(self._marks)}"
        began = len(self._said)
        # The mark is not in what is typed, should it be echoed.
        self._type(f"{command}; echo {mark}''-$?-")
        if not self._comes(f"{mark}-0-", limit_s(timeout_s), after=began):
            pytest.fail(f"{command}: {self._said[began:]}")
        return self._said[began:].partition(mark)[0]

    def _type(self, line: str) -> None:
        os.write(self._fd, f"{line}\n".encode())

    def _comes(self, text: str, wait_s: float, *, after: int = 0) -> bool:
        end = time.monotonic() + wait_s
        while text not in self._said[after:]:
            left_s = max(0.0, end - time.monotonic())
            if not select.select([self._fd], [], [], left_s)[0]:
                return False
            data = os.read(self._fd, 65536)
            self._said += data.decode(errors="replace").replace("\r", "")
        return True
