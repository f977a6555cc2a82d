# SPDX-License-Identifier: GPL-2.0-or-later
"""The store as a process, and clients that speak to its socket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xenstored.wire import HEADER, MessageType, message

PATIENCE_S = 20


@dataclass
class Peer:
    """A client's end of a stream."""

    sock: socket.socket

    def ask(self, kind: int, *words: bytes, tx: int = 0) -> bytes:
        """A request and its reply's payload; events before it are dropped."""
        payload = b"".join(word + b"\0" for word in words)
        self.sock.sendall(message(kind, 1, tx, payload))
        while (reply := self.take())[0] == MessageType.WATCH_EVENT:
            pass
        return reply[1]

    def write(self, path: bytes, value: bytes) -> bytes:
        payload = path + b"\0" + value
        self.sock.sendall(message(MessageType.WRITE, 1, 0, payload))
        return self.take()[1]

    def take(self) -> tuple[int, bytes]:
        """The next message: type and payload."""
        kind, _, _, size = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


@dataclass
class StoreProcess:
    """`python -m xenstored` in a directory of its own."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def socket_path(self) -> Path:
        return self.directory / "socket"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xenstored"),
                *("--socket", self.socket_path),
                *("--state", self.directory / "state"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"listening")

    def connect(self) -> Peer:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        self.sockets.append(sock)
        sock.connect(str(self.socket_path))
        return Peer(sock)

    def kill(self) -> None:
        """As the kernel kills: nothing is finished."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap(self.process)

    def stop(self) -> tuple[int, bytes]:
        """End it as systemd does; status and what it had to say."""
        assert self.process is not None
        self.process.terminate()
        return self._reap(self.process)

    def _reap(self, process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        _, said = process.communicate(timeout=PATIENCE_S)
        self.process = None
        return process.returncode, said

    def run(
        self, *command: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A client of Debian's, to its end."""
        if shutil.which(command[0]) is None:
            pytest.skip(f"xenstore-utils: {command[0]} is not installed")
        return subprocess.run(
            command,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=check,
        )

    def environment(self) -> dict[str, str]:
        return {**os.environ, "XENSTORED_PATH": str(self.socket_path)}
