# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on a socket that a service manager has (sd_listen_fds(3))."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.support.store import PATIENCE_S, Peer
from xenstored.wire import MessageType

STORE = (sys.executable, "-m", "xenstored")
EVTCHND = (sys.executable, "-m", "evtchnd")
# Its standard input becomes the sockets; $$ is the daemon's own number.
HAND_OVER = 'LISTEN_FDS={nr} LISTEN_PID=$$ exec "$@" 3<&0 4<&0 </dev/null'


def start(
    sock: socket.socket, *command: str | Path, nr: int = 1
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", HAND_OVER.format(nr=nr), "sh", *command],
        stdin=sock.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(8)
        yield listener


def test_nobody_is_refused_between_two_stores(
    listener: socket.socket, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    options = ("--socket", elsewhere, "--state", tmp_path / "state")
    for value in (b"", b"1"):
        # Nobody is there to accept it yet.
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.settimeout(limit_s(PATIENCE_S))
            sock.connect(str(tmp_path / "socket"))
            process = start(listener, *STORE, *options)
            client = Peer(sock)
            assert client.ask(MessageType.DIRECTORY, b"/") == b"tool\0local\0"
            assert client.ask(MessageType.READ, b"/tool") == value
            assert client.write(b"/tool", b"1") == b"OK\0"
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=limit_s(PATIENCE_S))
        assert (process.returncode, *said) == (0, b"listening\n", b"")
        # It is the manager's, which goes on listening.
        assert (tmp_path / "socket").is_socket()
        assert not elsewhere.exists()


@pytest.mark.parametrize("daemon", [STORE, EVTCHND])
@pytest.mark.parametrize(
    ("kind", "listens", "nr", "complaint"),
    [
        (socket.SOCK_DGRAM, False, 1, "is no Unix socket of SOCK_"),
        (None, False, 1, "does not listen"),
        (None, True, 2, "one socket is expected"),
    ],
)
def test_what_is_handed_over_must_be_right(
    daemon: tuple[str, ...],
    kind: socket.SocketKind | None,
    listens: bool,
    nr: int,
    complaint: str,
    tmp_path: Path,
) -> None:
    right = socket.SOCK_STREAM if daemon is STORE else socket.SOCK_SEQPACKET
    with socket.socket(socket.AF_UNIX, kind or right) as sock:
        sock.bind(str(tmp_path / "socket"))
        if listens:
            sock.listen(1)
        process = start(
            sock, *daemon, "--socket", tmp_path / "elsewhere", nr=nr
        )
        said = process.communicate(timeout=limit_s(PATIENCE_S))
    out, err = (text.decode() for text in said)
    assert (process.returncode, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert complaint in err
