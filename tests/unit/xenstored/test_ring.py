# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's ring: every guest, the hostile one included."""

import os
import select
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.storeclient import Message, new_store, parsed
from xenstored.ports import RingLink, RingPort, SocketPort
from xenstored.ring import Ring
from xenstored.ringpage import FEATURES, PAGE_BYTES, RING_BYTES
from xenstored.store import Store
from xenstored.wire import HEADER, MessageType, RingFault, message

REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
SERVER_FEATURES, CONNECTION, ERROR = 2064, 2068, 2072
U32 = st.integers(0, (1 << 32) - 1)
NULL_OP = message(MessageType.GET_DOMAIN_PATH, 1, 0, b"3\0")


class Page:
    """The page as the guest sees it, in the midst of other memory."""

    def __init__(self) -> None:
        self.memory = bytearray(b"\xaa" * (3 * PAGE_BYTES))
        self.view = memoryview(self.memory)[PAGE_BYTES : 2 * PAGE_BYTES]
        self.view[:] = bytes(PAGE_BYTES)

    def get(self, at: int) -> int:
        value: int = struct.unpack_from("<I", self.view, at)[0]
        return value

    def put(self, at: int, value: int) -> None:
        struct.pack_into("<I", self.view, at, value % (1 << 32))

    def send(self, data: bytes) -> int:
        """As much of a request as there is room for."""
        prod = self.get(REQ_PROD)
        room = RING_BYTES - (prod - self.get(REQ_CONS)) % (1 << 32)
        for i, byte in enumerate(data[:room]):
            self.view[(prod + i) % RING_BYTES] = byte
        self.put(REQ_PROD, prod + len(data[:room]))
        return len(data[:room])

    def receive(self) -> bytes:
        cons, prod = self.get(RSP_CONS), self.get(RSP_PROD)
        data = bytes(
            self.view[RING_BYTES + (cons + i) % RING_BYTES]
            for i in range((prod - cons) % (1 << 32))
        )
        self.put(RSP_CONS, prod)
        return data

    def others_are_untouched(self) -> bool:
        around = self.memory[:PAGE_BYTES] + self.memory[2 * PAGE_BYTES :]
        return set(around) == {0xAA}


class FakeLoop:
    """Owns one port, and runs it as the loop does."""

    def __init__(
        self, store: Store, page: Page, *, is_new: bool = True
    ) -> None:
        self.epoll = select.epoll()
        self.kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.nr_notified = 0
        self.busy = True
        store.introduce(3, 1, 1)
        self.connection = store.domains[3].connection
        link = RingLink(page.view, self.kick_fd, self._notify, self._close)
        self.port = RingPort(self, link, self.connection, is_new=is_new)

    def _notify(self) -> None:
        self.nr_notified += 1

    def _close(self) -> None:
        os.close(self.kick_fd)
        self.epoll.close()

    def later(self, port: SocketPort | RingPort) -> None:
        self.busy = True

    def to_flush(self, port: SocketPort | RingPort) -> None:
        assert port is self.port

    def closed(self, port: SocketPort | RingPort) -> None:
        assert port is self.port

    def kick(self) -> None:
        """The guest's notification, and what follows, until all is quiet."""
        os.eventfd_write(self.kick_fd, 1)
        self.port.on_ready(select.EPOLLIN)
        self.port.flush()
        for _ in range(1000):
            if not self.busy:
                return
            self.busy = False
            self.port.work()
            self.port.flush()
        raise AssertionError("it is never quiet")


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def loop(store: Store, page: Page) -> Iterator[FakeLoop]:
    loop = FakeLoop(store, page)
    yield loop
    loop.port.close()


def test_opening(page: Page, store: Store) -> None:
    for at in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, ERROR):
        page.put(at, 5)
    page.put(CONNECTION, 1)
    loop = FakeLoop(store, page)
    indices = (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD)
    assert [page.get(at) for at in indices] == [0, 0, 0, 0]
    assert page.get(SERVER_FEATURES) == FEATURES
    assert (page.get(CONNECTION), page.get(ERROR)) == (0, 0)
    assert loop.nr_notified == 1
    loop.port.close()


def test_request_and_reply(page: Page, loop: FakeLoop) -> None:
    page.send(NULL_OP)
    before = loop.nr_notified
    loop.kick()
    (reply,) = parsed(page.receive())
    assert reply == Message(
        MessageType.GET_DOMAIN_PATH, 1, 0, b"/local/domain/3\0"
    )
    assert page.get(REQ_CONS) == page.get(REQ_PROD) == len(NULL_OP)
    # Room and reply are told at once.
    assert loop.nr_notified == before + 1


def test_request_that_has_no_reply_yet_stays_in_the_ring(
    page: Page, loop: FakeLoop
) -> None:
    page.send(NULL_OP)
    loop.port.on_ready(select.EPOLLIN)
    assert page.get(REQ_CONS) == 0
    loop.port.flush()
    assert page.get(REQ_CONS) == len(NULL_OP)


def test_request_written_meanwhile_needs_no_notification(
    page: Page, loop: FakeLoop
) -> None:
    """A guest notifies only if all it wrote before had been taken, which is
    not yet so while it is being answered (Linux's xb_write())."""
    page.send(NULL_OP)
    loop.port.on_ready(select.EPOLLIN)
    page.send(NULL_OP)
    loop.busy = False
    loop.port.flush()
    # Nobody kicks: the port has seen by itself that there is more.
    assert loop.busy
    loop.busy = False
    loop.port.work()
    loop.port.flush()
    assert len(parsed(page.receive())) == 2
    assert page.get(REQ_CONS) == page.get(REQ_PROD)
    assert not loop.busy


def test_reply_that_waits_for_room_goes_when_the_guest_makes_some(
    page: Page, loop: FakeLoop
) -> None:
    """Linux notifies of room only if the ring was full before
    (xb_read()): whenever something waits, the ring must be full."""
    while page.get(RSP_PROD) - page.get(RSP_CONS) < RING_BYTES:
        page.send(NULL_OP)
        loop.kick()
    page.receive()
    loop.kick()
    assert page.get(REQ_CONS) == page.get(REQ_PROD)


def test_requests_left_by_a_killed_store_are_answered(
    page: Page, store: Store
) -> None:
    page.send(NULL_OP * 2)
    loop = FakeLoop(store, page, is_new=False)
    loop.kick()
    assert len(parsed(page.receive())) == 2
    loop.port.close()


def test_half_a_request_is_taken_at_once(page: Page, loop: FakeLoop) -> None:
    page.send(NULL_OP + NULL_OP[:17])
    loop.kick()
    assert len(parsed(page.receive())) == 1
    # Linux does not notify of the rest while we have not caught up.
    assert page.get(REQ_CONS) == len(NULL_OP) + 17
    page.send(NULL_OP[17:])
    loop.kick()
    assert len(parsed(page.receive())) == 1


def test_request_and_reply_larger_than_the_ring(
    page: Page, loop: FakeLoop, store: Store
) -> None:
    store.quotas.node_size = 5000
    store.tree.set_perms((b"",), ((0, 3),))
    value = bytes(i % 251 for i in range(3000))
    data = message(MessageType.WRITE, 1, 0, b"/big\0" + value)
    while data:
        data = data[page.send(data) :]
        loop.kick()
    assert parsed(page.receive())[0].payload == b"OK\0"
    page.send(message(MessageType.READ, 2, 0, b"/big\0"))
    got = b""
    for _ in range(4):
        loop.kick()
        got += page.receive()
    assert parsed(got)[0].payload == value


def test_guest_that_takes_nothing_is_not_served(
    page: Page, loop: FakeLoop
) -> None:
    sent = 0
    for _ in range(200):
        sent += page.send(NULL_OP)
        loop.kick()
    # The ring of requests is full as well, and nothing more is kept here.
    assert page.send(NULL_OP) < len(NULL_OP)
    assert page.get(RSP_PROD) - page.get(RSP_CONS) == RING_BYTES
    assert loop.connection.output_bytes == 0
    got = b""
    for _ in range(100):
        got += page.receive()
        loop.kick()
    assert len(parsed(got)) == sent // len(NULL_OP)


def test_reconnection(page: Page, loop: FakeLoop) -> None:
    page.send(message(MessageType.WATCH, 1, 0, b"a\0t\0"))
    page.send(message(MessageType.TRANSACTION_START, 1, 0, b"\0"))
    page.send(NULL_OP[:5])
    loop.kick()
    page.put(REQ_PROD, 77)
    page.put(CONNECTION, 1)
    loop.kick()
    assert page.get(CONNECTION) == 0
    assert page.get(REQ_PROD) == page.get(RSP_PROD) == 0
    assert loop.connection.watches == {}
    assert loop.connection.transactions == {}
    page.send(NULL_OP)
    loop.kick()
    assert len(parsed(page.receive())) == 1


@pytest.mark.parametrize(
    ("at", "value", "fault"),
    [
        (REQ_PROD, RING_BYTES + 1, RingFault.RINGIDX),
        (RSP_CONS, 1, RingFault.RINGIDX),
        (0, 0, RingFault.PROTO),
    ],
)
def test_guest_that_breaks_the_rules_is_told(
    page: Page, loop: FakeLoop, at: int, value: int, fault: RingFault
) -> None:
    page.send(HEADER.pack(2, 1, 0, 0 if at else 5000))
    if at:
        page.put(at, value)
    loop.kick()
    assert page.get(ERROR) == fault
    prod = page.get(RSP_PROD)
    loop.kick()
    assert page.get(RSP_PROD) == prod
    # It may come back the way that the error leaves open.
    page.put(CONNECTION, 1)
    loop.kick()
    assert page.get(ERROR) == RingFault.NONE
    page.send(NULL_OP)
    loop.kick()
    assert len(parsed(page.receive())) == 1


def test_who_breaks_them_again_and_again_is_logged_once(
    page: Page, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        page.put(REQ_PROD, page.get(REQ_CONS) + RING_BYTES + 1)
        loop.kick()
        assert page.get(ERROR) == RingFault.RINGIDX
        page.put(CONNECTION, 1)
        loop.kick()
        assert page.get(ERROR) == RingFault.NONE
    assert caplog.text.count("no more replies") == 1


@given(start=U32, data=st.lists(st.binary(max_size=80), max_size=30))
def test_indices_run_over(start: int, data: list[bytes]) -> None:
    page = Page()
    for at in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
        page.put(at, start)
    ring = Ring(page.view)
    for piece in data:
        assert page.send(piece) == len(piece)
        assert ring.requests() == piece
        ring.consume(len(piece))
        assert ring.put_replies(piece) == len(piece)
        assert page.receive() == piece
    ring.release()


def test_room_made_as_the_ring_fills_is_seen_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page()
    ring = Ring(page.view)
    nr_barriers = []
    barrier = SimpleNamespace(memory_barrier=lambda: nr_barriers.append(1))
    monkeypatch.setattr("xenstored.ring.lib", barrier)
    assert ring.put_replies(bytes(RING_BYTES - 1)) == RING_BYTES - 1
    assert not nr_barriers
    # It fits to the byte: the guest's index is looked at again all the same.
    assert ring.put_replies(b"x") == 1
    assert len(nr_barriers) == 1
    assert ring.put_replies(b"y") == 0
    ring.release()


@given(
    scribbles=st.lists(
        st.tuples(
            st.sampled_from(
                [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, 0, 12, 16]
            ),
            U32 | st.integers(0, 2 * RING_BYTES),
            st.sampled_from(["ready", "work", "flush", "send", "event"]),
        ),
        max_size=30,
    )
)
def test_scribbling_at_any_moment_harms_nobody_else(
    scribbles: list[tuple[int, int, str]],
) -> None:
    page, store = Page(), new_store()
    loop = FakeLoop(store, page)
    store.tree.set_perms((b"",), ((0, 3),))
    for at, value, step in scribbles:
        match step:
            case "ready":
                loop.port.on_ready(select.EPOLLIN)
            case "work":
                loop.port.work()
            case "flush":
                loop.port.flush()
            case "send" if page.get(REQ_PROD) - page.get(REQ_CONS) < 900:
                page.send(message(MessageType.WATCH, 1, 0, b"/\0t\0") + NULL_OP)
            case _:
                store.fire((b"", b"x"), ((0, 3),))
        page.put(at, value)
        assert loop.connection.output_bytes < 4096
    assert page.others_are_untouched()
    loop.port.close()
