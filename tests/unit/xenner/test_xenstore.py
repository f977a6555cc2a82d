# SPDX-License-Identifier: GPL-2.0-or-later
"""The client of xenstore against a server that says anything."""

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xenner.errors import HostError
from xenner.types import Domid, Mfn, Port
from xenner.xenstore import Xenstore, XenstoreError

_HEADER = struct.Struct("<IIII")
READ, TX_START, TX_END, INTRODUCE, RELEASE = 2, 6, 7, 8, 9
WRITE, RM, SET_PERMS, ERROR = 11, 13, 14, 16


@dataclass
class Server:
    """Answers each request with the next of `answers`, in two pieces."""

    path: Path
    answers: list[tuple[int, bytes] | bytes] = field(default_factory=list)
    requests: list[tuple[int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, client.makefile("rb") as stream:
            while header := stream.read(_HEADER.size):
                kind, _req, tx, size = _HEADER.unpack(header)
                self.requests.append((kind, tx, stream.read(size)))
                answer = self.answers.pop(0)
                if isinstance(answer, bytes):
                    client.sendall(answer)
                    return
                reply = _HEADER.pack(answer[0], 0, tx, len(answer[1]))
                client.sendall(reply[:5])
                client.sendall(reply[5:] + answer[1])

    def close(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "socket")
    yield server
    server.close()


@pytest.fixture
def store(server: Server) -> Iterator[Xenstore]:
    with Xenstore(server.path) as store:
        yield store


def test_requests_are_the_protocols(server: Server, store: Xenstore) -> None:
    server.answers = [
        (READ, b"web"),
        (TX_START, b"42\0"),
        (WRITE, b"OK\0"),
        (SET_PERMS, b"OK\0"),
        (RM, b"OK\0"),
        (TX_END, b"OK\0"),
        (INTRODUCE, b"OK\0"),
        (RELEASE, b"OK\0"),
    ]
    assert store.read("/a") == "web"
    tx = store.start_transaction()
    assert tx == 42
    store.write("/a", "b", tx=tx)
    store.set_perms("/a", "n0", "r7", tx=tx)
    store.remove("/c", tx=tx)
    assert store.end_transaction(tx, commits=True)
    store.introduce(Domid(7), Mfn(4097), Port(1))
    store.release(Domid(7))
    assert server.requests == [
        (READ, 0, b"/a\0"),
        (TX_START, 0, b"\0"),
        (WRITE, 42, b"/a\0b"),
        (SET_PERMS, 42, b"/a\0n0\0r7\0"),
        (RM, 42, b"/c\0"),
        (TX_END, 42, b"T\0"),
        (INTRODUCE, 0, b"7\0" + b"4097\0" + b"1\0"),
        (RELEASE, 0, b"7\0"),
    ]


def test_errors_have_their_names(server: Server, store: Xenstore) -> None:
    server.answers = [(ERROR, b"EACCES\0"), (ERROR, b"EACCES\0")]
    with pytest.raises(XenstoreError, match="read /a: EACCES") as refused:
        store.read("/a")
    assert refused.value.name == "EACCES"
    with pytest.raises(XenstoreError):
        store.remove("/a")


def test_what_may_not_be_there(server: Server, store: Xenstore) -> None:
    server.answers = [
        (READ, b"1"),
        (ERROR, b"ENOENT\0"),
        (ERROR, b"EACCES\0"),
    ]
    assert store.find("/a") == "1"
    assert store.find("/a") is None
    with pytest.raises(XenstoreError, match="read /a: EACCES"):
        store.find("/a")


def test_what_is_gone_is_removed(server: Server, store: Xenstore) -> None:
    server.answers = [(ERROR, b"ENOENT\0")]
    store.remove("/a")
    assert len(server.requests) == 1


def test_a_transaction_may_lose(server: Server, store: Xenstore) -> None:
    server.answers = [
        (ERROR, b"EAGAIN\0"),
        (ERROR, b"ENOENT\0"),
        (TX_END, b"OK\0"),
    ]
    assert not store.end_transaction(3, commits=True)
    with pytest.raises(XenstoreError):
        store.end_transaction(3, commits=True)
    assert store.end_transaction(3, commits=False)
    assert server.requests[-1] == (TX_END, 3, b"F\0")


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x02", _HEADER.pack(READ, 0, 0, 4), _HEADER.pack(READ, 0, 0, 4097)],
)
def test_a_broken_server_is_an_error(
    server: Server, store: Xenstore, answer: bytes
) -> None:
    server.answers = [answer]
    with pytest.raises(HostError, match="xenstore"):
        store.read("/a")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is it running"):
        Xenstore(tmp_path / "none")
