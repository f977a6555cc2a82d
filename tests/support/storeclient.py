# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of a store in memory: whole messages in, parsed messages out."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from xenstored.requests import handle
from xenstored.store import Store
from xenstored.wire import HEADER, MessageType, message


class Message(NamedTuple):
    kind: int
    req_id: int
    tx_id: int
    payload: bytes


class RefusedError(Exception):
    """The store answered with an error; str() is its name."""


def parsed(data: bytes) -> list[Message]:
    """All messages of a stream, which must be whole."""
    messages = []
    while data:
        kind, req_id, tx_id, size = HEADER.unpack_from(data)
        payload = data[HEADER.size : HEADER.size + size]
        assert len(payload) == size
        messages.append(Message(kind, req_id, tx_id, payload))
        data = data[HEADER.size + size :]
    return messages


class Client:
    """One connection; `domid` other than 0 has the rights of a guest."""

    def __init__(self, store: Store, domid: int = 0) -> None:
        self.store = store
        self.connection = store.connect(domid, is_privileged=domid == 0)
        self._unread: list[Message] = []

    @classmethod
    def ring(cls, store: Store, domid: int) -> "Client":
        """The client that an introduced domain is."""
        client = cls(store, domid)
        client.connection = store.domains[domid].connection
        return client

    def ask(self, kind: MessageType, *words: bytes, tx: int = 0) -> bytes:
        """Send words that each get a nul; the reply's payload."""
        return self.ask_raw(kind, b"".join(w + b"\0" for w in words), tx=tx)

    def ask_raw(self, kind: int, payload: bytes, *, tx: int = 0) -> bytes:
        """The reply's payload; events that came before stay unread."""
        before = self.connection.take_output()
        self.connection.receive(message(kind, 7, tx, payload))
        messages = parsed(b"".join(self.connection.take_output()))
        events = [m for m in messages if m.kind == MessageType.WATCH_EVENT]
        (reply,) = (m for m in messages if m.kind != MessageType.WATCH_EVENT)
        assert (reply.req_id, reply.tx_id) == (7, tx)
        self._unread = [
            *getattr(self, "_unread", []),
            *parsed(b"".join(before)),
        ]
        self._unread += events
        if reply.kind == MessageType.ERROR:
            assert reply.payload[-1:] == b"\0"
            raise RefusedError(reply.payload[:-1].decode())
        assert reply.kind == kind
        return reply.payload

    def events(self) -> list[tuple[bytes, bytes]]:
        """Path and token of the events since the last call."""
        output = b"".join(self.connection.take_output())
        messages = [*self._unread, *parsed(output)]
        self._unread = []
        found = []
        for each in messages:
            assert each.kind == MessageType.WATCH_EVENT
            assert (each.req_id, each.tx_id) == (0, 0)
            path, token, rest = each.payload.split(b"\0")
            assert rest == b""
            found.append((path, token))
        return found

    # The operations that most tests use

    def read(self, path: bytes, *, tx: int = 0) -> bytes:
        return self.ask(MessageType.READ, path, tx=tx)

    def write(self, path: bytes, value: bytes, *, tx: int = 0) -> None:
        payload = path + b"\0" + value
        assert self.ask_raw(MessageType.WRITE, payload, tx=tx) == b"OK\0"

    def mkdir(self, path: bytes, *, tx: int = 0) -> None:
        assert self.ask(MessageType.MKDIR, path, tx=tx) == b"OK\0"

    def rm(self, path: bytes, *, tx: int = 0) -> None:
        assert self.ask(MessageType.RM, path, tx=tx) == b"OK\0"

    def directory(self, path: bytes, *, tx: int = 0) -> list[bytes]:
        return self.ask(MessageType.DIRECTORY, path, tx=tx).split(b"\0")[:-1]

    def get_perms(self, path: bytes, *, tx: int = 0) -> list[bytes]:
        return self.ask(MessageType.GET_PERMS, path, tx=tx).split(b"\0")[:-1]

    def set_perms(self, path: bytes, *perms: bytes, tx: int = 0) -> None:
        self.ask(MessageType.SET_PERMS, path, *perms, tx=tx)

    def watch(self, path: bytes, token: bytes, *depth: bytes) -> None:
        assert self.ask(MessageType.WATCH, path, token, *depth) == b"OK\0"

    def start(self) -> int:
        return int(self.ask(MessageType.TRANSACTION_START, b"")[:-1])

    def end(self, tx: int, *, commit: bool = True) -> None:
        how = b"T" if commit else b"F"
        self.ask(MessageType.TRANSACTION_END, how, tx=tx)


def new_store() -> Store:
    return Store(handle)


def refused(name: str, ask: Callable[[], object]) -> None:
    """`ask` is answered with this error."""
    with pytest.raises(RefusedError, match=f"^{name}$"):
        ask()
