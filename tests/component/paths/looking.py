# SPDX-License-Identifier: GPL-2.0-or-later
"""looking.py MODULE [ARGUMENT ...]: run a program until it first looks into a
runtime directory, and say which: /run/xenner, /dev/shm, or below /named."""

import os
import runpy
import sys
from pathlib import PurePath
from typing import Any

_PLACES = ("/run/xenner", "/dev/shm", "/named")
_EVENTS = {
    "open": 0,
    "os.listdir": 0,
    "os.mkdir": 0,
    "os.scandir": 0,
    "socket.bind": 1,
    "socket.connect": 1,
}


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    at = _EVENTS.get(event)
    path = arguments[at] if at is not None else None
    if not isinstance(path, str):
        return
    for place in _PLACES:
        if PurePath(path).is_relative_to(place):
            os.write(1, f"looks at {path}\n".encode())
            os._exit(0)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.addaudithook(_look)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
