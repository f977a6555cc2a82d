# SPDX-License-Identifier: GPL-2.0-or-later
"""serve_store as a daemon uses it: guests plugged in through its handle."""

import os
import socket
import struct
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support.store import PATIENCE_S, Peer
from xenner.listening import listen_at
from xenner.types import Domid
from xenstored.ports import RingLink
from xenstored.server import StoreHandle, serve_store
from xenstored.statefile import StateFile
from xenstored.store import Domain
from xenstored.wire import MessageType, message

GUEST = Domid(3)
REQ_PROD, RSP_CONS, RSP_PROD = 2052, 2056, 2060


@dataclass
class FakeGuest:
    """The guest's side of one ring, and what a daemon does to open it."""

    page: bytearray = field(default_factory=lambda: bytearray(4096))
    kick_fd: int = -1
    told_fd: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))
    nr_closed: int = 0

    def open_ring(self, domain: Domain) -> RingLink:
        if domain.domid != GUEST:
            raise PermissionError(13, "not granted")
        self.kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return RingLink(
            memoryview(self.page),
            self.kick_fd,
            lambda: os.eventfd_write(self.told_fd, 1),
            self._close,
        )

    def _close(self) -> None:
        os.close(self.kick_fd)
        self.nr_closed += 1

    def word(self, at: int) -> int:
        value: int = struct.unpack_from("<I", self.page, at)[0]
        return value

    def send(self, data: bytes) -> None:
        prod = self.word(REQ_PROD)
        for i, byte in enumerate(data):
            self.page[(prod + i) % 1024] = byte
        struct.pack_into("<I", self.page, REQ_PROD, prod + len(data))
        os.eventfd_write(self.kick_fd, 1)

    async def receive(self, count: int) -> bytes:
        """So many bytes of replies, taken when all are there."""
        cons = self.word(RSP_CONS)
        with trio.fail_after(PATIENCE_S):
            while self.word(RSP_PROD) - cons < count:
                await trio.lowlevel.wait_readable(self.told_fd)
                os.eventfd_read(self.told_fd)
        struct.pack_into("<I", self.page, RSP_CONS, cons + count)
        return bytes(self.page[1024 + (cons + i) % 1024] for i in range(count))


async def test_ring_over_two_lives_of_the_store(tmp_path: Path) -> None:
    guest = FakeGuest()
    watch = message(MessageType.WATCH, 1, 0, b"/\0t\0")
    event = message(MessageType.WATCH_EVENT, 0, 0, b"/\0t\0")
    path_of = message(MessageType.GET_DOMAIN_PATH, 2, 0, b"3\0")
    path = message(MessageType.GET_DOMAIN_PATH, 2, 0, b"/local/domain/3\0")
    for life in range(2):
        state = StateFile(tmp_path)
        async with trio.open_nursery() as nursery:
            serve = partial(
                serve_store, None, state=state, open_ring=guest.open_ring
            )
            handle: StoreHandle = await nursery.start(serve)
            if life == 0:
                await handle.introduce(GUEST, gfn=1, port=1)
                guest.send(watch)
                reply = message(MessageType.WATCH, 1, 0, b"OK\0")
                got = await guest.receive(len(reply + event))
                assert got == reply + event
            else:
                # The watch has outlived the store, and so has the ring.
                assert await guest.receive(len(event)) == event
            guest.send(path_of)
            assert await guest.receive(len(path)) == path
            assert (await handle.statistics()).nr_domains == 1
            assert (await handle.statistics()).nr_starts == life
            nursery.cancel_scope.cancel()
        state.close()
    assert guest.nr_closed == 2
    os.close(guest.told_fd)


async def test_ring_that_is_not_granted() -> None:
    guest = FakeGuest()
    async with trio.open_nursery() as nursery:
        serve = partial(serve_store, None, open_ring=guest.open_ring)
        handle: StoreHandle = await nursery.start(serve)
        with pytest.raises(PermissionError):
            await handle.introduce(Domid(4), gfn=1, port=1)
        assert (await handle.statistics()).nr_domains == 0
        nursery.cancel_scope.cancel()
    os.close(guest.told_fd)


async def test_restored_domain_whose_ring_is_gone_is_released(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateFile(tmp_path)
    state.store.introduce(4, 1, 1)
    state.save()
    state.close()
    state = StateFile(tmp_path)
    guest = FakeGuest()
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_store, None, state=state, open_ring=guest.open_ring
        )
        handle: StoreHandle = await nursery.start(serve)
        assert (await handle.statistics()).nr_domains == 0
        nursery.cancel_scope.cancel()
    state.close()
    assert "domain 4: its ring is gone" in caplog.text
    os.close(guest.told_fd)


async def test_guest_on_a_socket(tmp_path: Path) -> None:
    with listen_at(tmp_path / "socket", backlog=1) as listener:
        async with trio.open_nursery() as nursery:
            handle: StoreHandle = await nursery.start(serve_store, listener)
            ours, theirs = socket.socketpair()
            await handle.add_guest(theirs, GUEST)
            ours.settimeout(PATIENCE_S)
            with ours:
                ask = partial(Peer(ours).ask, MessageType.READ, b"/tool")
                assert await trio.to_thread.run_sync(ask) == b"EACCES\0"
                # More at a time than it may have outstanding: in shares.
                ours.sendall(message(MessageType.READ, 1, 0, b"/\0") * 300)
                for _ in range(300):
                    take = Peer(ours).take
                    _, payload = await trio.to_thread.run_sync(take)
                    assert payload == b"EACCES\0"
            nursery.cancel_scope.cancel()


async def test_death_and_release_are_told(tmp_path: Path) -> None:
    with (
        listen_at(tmp_path / "socket", backlog=1) as listener,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.settimeout(PATIENCE_S)
        async with trio.open_nursery() as nursery:
            handle: StoreHandle = await nursery.start(serve_store, listener)
            await handle.introduce(GUEST, gfn=1, port=1)
            sock.connect(str(tmp_path / "socket"))
            peer = Peer(sock)
            watch = partial(
                peer.ask, MessageType.WATCH, b"@releaseDomain", b"t"
            )
            assert await trio.to_thread.run_sync(watch) == b"OK\0"
            for happen in (handle.shut_down, handle.release, handle.release):
                await happen(GUEST)
            event = (MessageType.WATCH_EVENT, b"@releaseDomain\0t\0")
            # At first when it is set up; a second release says nothing.
            for _ in range(3):
                assert await trio.to_thread.run_sync(peer.take) == event
            nursery.cancel_scope.cancel()
