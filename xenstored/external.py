# SPDX-License-Identifier: GPL-2.0-or-later
"""A real xenstored or oxenstored in our place, by one line of configuration.

Both find evtchnd and the guests through the drop-in libraries, whose directory
LD_LIBRARY_PATH has. We start one, say when it answers, and end with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from xenner.errors import ConfigError, HostError
from xenner.listening import give_to, listener_of
from xenner.paths import xenstore_of
from xenner.service import notify

VARIABLE = "XENNER_XENSTORED"
_READY_LIMIT_S = 30.0
_LOOK_S = 0.02
# Compiled into it.
_OXENSTORED_SOCKET = xenstore_of({})
# libxenevtchn answers for what it has of a kernel's.
_OXENSTORED_CONF = """\
pid-file = {directory}/pid
xenstored-port = /proc/xen/xsd_port
xenstored-kva = /proc/xen/xsd_kva
persistent = false
xenstored-log-file = {directory}/log
access-log-file = {directory}/access-log
access-log-nb-files = 2
"""


def run_instead(
    line: str, path: Path, *, runtime_dir: Path, group: str | None = None
) -> None:
    """Serve the socket at `path` by the program of `line`, until it ends.

    It makes a socket that is its user's alone: `group` has it as well then.

    HostError if it cannot be started or ends by itself; ConfigError if `path`
    is none that it can serve.
    """
    words = shlex.split(line)
    if not words:
        raise ConfigError(f"{VARIABLE}: no program in {line!r}")
    name = Path(words[0]).name
    if path.name != "socket":
        raise ConfigError(f"{path}: {name}'s socket is called `socket`")
    command = [*words, *_options(name, path)]
    surroundings = {
        **os.environ,
        "XENSTORED_RUNDIR": str(path.parent),
        "XENNER_RUNTIME_DIR": str(runtime_dir),
    }
    # It says nothing to a service manager, and takes no socket of one's.
    for unwanted in ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS"):
        surroundings.pop(unwanted, None)
    is_told = _Told()
    try:
        child = subprocess.Popen(
            command, env=surroundings, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise HostError(f"{words[0]}: {error.strerror}") from error
    with child:
        is_told.pass_on_to(child)
        if _wait_ready(child, path):
            if group is not None:
                _share(path, group)
            print("listening", flush=True)
            # It feeds no watchdog: none is to wait for it (sd_notify(3)).
            notify("READY=1", "WATCHDOG_USEC=0")
        status = child.wait()
    if not is_told:
        raise HostError(f"{name} has ended: status {status}")


def _share(path: Path, group: str) -> None:
    try:
        give_to(path, group)
        path.chmod(0o660)
    except OSError as error:
        raise HostError(f"cannot give {path} to {group}: {error}") from error


class _Told:
    """Were we told to end? Then so is the program, now or when it is there."""

    def __init__(self) -> None:
        self._number = 0
        self._child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        return self._number != 0

    def pass_on_to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        if self._number:
            child.send_signal(self._number)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._number = number
        if self._child is not None:
            self._child.send_signal(number)


def _options(name: str, path: Path) -> list[str]:
    """What keeps it in the foreground and at its socket."""
    if not name.startswith("oxenstored"):
        return ["-N"]
    if path.resolve() != _OXENSTORED_SOCKET.resolve():
        raise ConfigError(f"{path}: oxenstored serves {_OXENSTORED_SOCKET}")
    conf = path.parent / "oxenstored.conf"
    try:
        conf.write_text(_OXENSTORED_CONF.format(directory=path.parent))
    except OSError as error:
        raise HostError(f"{conf}: {error.strerror}") from error
    return ["--no-fork", "--config-file", str(conf)]


def _wait_ready(child: subprocess.Popen[bytes], path: Path) -> bool:
    """Until it answers; False: it has ended. HostError: it does neither."""
    until_s = time.monotonic() + _READY_LIMIT_S
    while child.poll() is None:
        if listener_of(path) == child.pid:
            return True
        if time.monotonic() > until_s:
            child.kill()
            raise HostError(f"nobody answers at {path}")
        time.sleep(_LOOK_S)
    return False
