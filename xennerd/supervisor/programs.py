# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of the daemons that xennerd runs without systemd. Pure,
but for the search for our libraries."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xenner
from xenner.errors import HostError
from xenner.paths import Paths

_LIBRARY = "libxenevtchn.so.1"
_LIBRARY_DIRS = (
    # A working tree, a virtual environment, a package.
    Path(xenner.__file__).parents[1] / "build/meson/libs",
    Path(sys.prefix) / "lib/x86_64-linux-gnu/xenner",
    Path("/usr/local/lib/x86_64-linux-gnu/xenner"),
    Path("/usr/lib/x86_64-linux-gnu/xenner"),
)
DAEMONS = ("evtchnd", "xenstored", "blkbackd", "netbackd")


@dataclass(frozen=True, slots=True)
class Program:
    """A daemon's command line, and the socket that it serves."""

    name: str
    argv: tuple[str, ...]
    socket_path: Path
    socket_kind: socket.SocketKind = socket.SOCK_STREAM


def programs(paths: Paths) -> list[Program]:
    """The daemons; each needs only those before it."""
    python = (sys.executable, "-m")
    evtchnd = ("--evtchnd", str(paths.evtchnd))
    runtime = ("--runtime-dir", str(paths.runtime_dir))
    return [
        Program(
            "evtchnd",
            (*python, "evtchnd", "--socket", str(paths.evtchnd)),
            paths.evtchnd,
            socket.SOCK_SEQPACKET,
        ),
        Program(
            "xenstored",
            (
                *(*python, "xenstored", *evtchnd, *runtime),
                *("--socket", str(paths.xenstore)),
                *("--state", str(paths.state_dir)),
            ),
            paths.xenstore,
        ),
        *(
            Program(name, (*python, name), paths.backend(name))
            for name in ("blkbackd", "netbackd")
        ),
    ]


def environment(paths: Paths, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the programs, and Xen's libraries in them, find
    each other. HostError: our libraries are not found."""
    search = inherited.get("LD_LIBRARY_PATH", "")
    if not any(_has_library(Path(word)) for word in search.split(":") if word):
        search = f"{_library_dir()}{':' if search else ''}{search}"
    found = {
        **inherited,
        "LD_LIBRARY_PATH": search,
        "XENNER_RUNTIME_DIR": str(paths.runtime_dir),
        "XENSTORED_PATH": str(paths.xenstore),
    }
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        found.pop(name, None)
    return found


def _library_dir() -> Path:
    for directory in _LIBRARY_DIRS:
        if _has_library(directory):
            return directory
    raise HostError(
        f"cannot find the drop-in {_LIBRARY}",
        "LD_LIBRARY_PATH can name its directory",
    )


def _has_library(directory: Path) -> bool:
    return os.path.exists(directory / _LIBRARY)
