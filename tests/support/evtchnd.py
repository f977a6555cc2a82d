# SPDX-License-Identifier: GPL-2.0-or-later
"""A real evtchnd, and a client of its socket that does as it is told."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from evtchnd.messages import REPLY_BYTES, Reply, Request, Type
from xenner import abi

TOP = Path(__file__).resolve().parents[2]
LIBS = TOP / "build/meson/libs"
LIMIT_S = 30.0


class Daemon:
    """evtchnd behind a socket that outlives it, as a service manager's."""

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self.path = runtime_dir / "evtchnd.socket"
        self.process: subprocess.Popen[bytes] | None = None
        self.listen()

    def listen(self) -> None:
        """Make the socket; again if it was closed."""
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(64)

    def start(self, *arguments: str, nofile: int | None = None) -> None:
        """Until it answers. The socket is there before, but clients that come
        back do not wait long for who has yet to start."""
        limit = f"ulimit -n {nofile}; " if nofile else ""
        script = (
            f"{limit}LISTEN_FDS=1 LISTEN_PID=$$ "
            f'exec "$0" -m evtchnd "$@" 3<&0 </dev/null'
        )
        self.process = subprocess.Popen(
            ["sh", "-c", script, sys.executable, *arguments],
            cwd=TOP,
            stdin=self.listener.fileno(),
        )
        Client(self.path).close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(LIMIT_S)
        self.process = None
        return status

    def nr_fds(self) -> int:
        """How many descriptors it has open."""
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def environment(self) -> dict[str, str]:
        """For programs that are to find it, through the libraries."""
        return {
            **os.environ,
            "XENNER_RUNTIME_DIR": str(self.runtime_dir),
            "LD_LIBRARY_PATH": str(LIBS),
        }


class Client:
    """One connection. Calls return the reply; `fds` are the last reply's."""

    def __init__(self, path: Path, *, hello: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(str(path))
        self.fds: list[int] = []
        self.page: list[int] = []
        if hello:
            self.hello = self.call(
                Type.HELLO, value=(abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION)
            )
            self.page, self.fds = self.fds, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.close_fds()
        while self.page:
            os.close(self.page.pop())
        self.socket.close()

    def close_fds(self) -> None:
        """Close the last reply's."""
        while self.fds:
            os.close(self.fds.pop())

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.socket, [packet], list(fds))

    def receive(self) -> Reply | None:
        """The next reply; None at the end of the connection."""
        self.close_fds()
        with suppress(ConnectionResetError):
            data, self.fds, _flags, _address = socket.recv_fds(
                self.socket, REPLY_BYTES + 1, abi.EVTCHND_MAX_FDS
            )
            return Reply.parse(data) if data else None
        return None

    def raw(self, packet: bytes, fds: Sequence[int] = ()) -> Reply:
        """Send anything; there must be a reply."""
        self.send(packet, fds)
        reply = self.receive()
        assert reply is not None
        return reply

    def call(self, kind: Type, fds: Sequence[int] = (), **fields: Any) -> Reply:
        """Send a request."""
        return self.raw(Request(kind, tag=7, **fields).pack(), fds)

    def must(self, kind: Type, fds: Sequence[int] = (), **fields: Any) -> Reply:
        """Send a request that succeeds."""
        reply = self.call(kind, fds, **fields)
        assert reply.error == 0, os.strerror(reply.error)
        return reply


@contextmanager
def open_daemon(runtime_dir: Path, *arguments: str) -> Iterator[Daemon]:
    """A running evtchnd for the length of the block; it ends well."""
    daemon = Daemon(runtime_dir)
    daemon.start(*arguments)
    try:
        yield daemon
        # Answers, and so has its signal handlers.
        Client(daemon.path).close()
        assert daemon.stop() == 0
    finally:
        daemon.listener.close()
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)


def library(name: str) -> Path:
    """A drop-in library, or a skip where it has not been built."""
    path = LIBS / f"lib{name}.so.1"
    if not path.exists():
        pytest.skip(f"build: no {path.relative_to(TOP)}: run tools/setup")
    return path
