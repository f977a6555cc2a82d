# SPDX-License-Identifier: GPL-2.0-or-later
"""What carries a connection's bytes: a stream socket or a guest's ring.

Both are driven by the loop (loop.py): `on_ready` when their descriptor has
something, `work` while whole requests wait that were received already, and
`flush` when there is something to send, after the journal has been written.
"""

import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from xenstored.ring import Ring
from xenstored.store import Client
from xenstored.wire import ProtocolError, whole_bytes

_log = logging.getLogger("xenner.store")

_RECEIVE_BYTES = 16 << 10
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR


class Owner(Protocol):
    """The loop, as a port sees it."""

    epoll: select.epoll

    def later(self, port: "SocketPort | RingPort") -> None:
        """Call its `work` in the next turn."""

    def to_flush(self, port: "SocketPort | RingPort") -> None:
        """Call its `flush` in this turn, after the journal is written."""

    def closed(self, port: "SocketPort | RingPort") -> None:
        """It has closed itself; forget it and its connection."""


class SocketPort:
    """A client on a stream socket, which the port owns."""

    def __init__(
        self, owner: Owner, sock: socket.socket, connection: Client
    ) -> None:
        sock.setblocking(False)
        self.fd = sock.fileno()
        self.connection = connection
        self._owner = owner
        self._socket = sock
        self._unsent = b""
        self._interest = _IN
        owner.epoll.register(self.fd, _IN)

    def on_ready(self, events: int) -> None:
        if events & _IN and self._interest & _IN:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if data:
                self._handle(data)
            else:
                self.close()
        elif events & _GONE:
            self.close()
        if events & _OUT:
            self._owner.to_flush(self)

    def work(self) -> None:
        self._handle(b"")

    def _handle(self, data: bytes) -> None:
        if self.fd < 0:
            return
        try:
            has_more = self.connection.receive(data)
        except ProtocolError:
            self.close()
            return
        if has_more and not self.connection.is_full:
            self._owner.later(self)

    def flush(self) -> None:
        """Send what there is, as far as the client takes it."""
        if self.fd < 0:
            return
        connection = self.connection
        data = self._unsent
        if not data:
            taken = connection.take_output()
            data = taken[0] if len(taken) == 1 else b"".join(taken)
        sent = 0
        try:
            sent = self._socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            pass
        except ConnectionError:
            self.close()
            return
        if sent == len(data):
            self._unsent = b""
            if self._interest == _IN and not connection.is_midway:
                return
        else:
            self._unsent = data[sent:]
        self._await()

    def _await(self) -> None:
        """Wait for what can come next: requests, or room for replies."""
        connection = self.connection
        if self._unsent or connection.has_output:
            wanted = _OUT if connection.is_full else _IN | _OUT
        else:
            wanted = _IN
            if connection.is_midway:
                self._owner.later(self)
        if wanted != self._interest:
            self._owner.epoll.modify(self.fd, wanted)
            self._interest = wanted

    def close(self) -> None:
        """End it; the client sees the end of the stream."""
        if self.fd >= 0:
            self._owner.epoll.unregister(self.fd)
            self._owner.closed(self)
            self._socket.close()
            self.fd = -1


class RingAbsentError(OSError):
    """A domain lives, and its ring cannot be had yet."""


@dataclass(frozen=True, slots=True)
class RingLink:
    """What is needed to talk through a guest's ring.

    `kick_fd` is an eventfd, not blocking, that the guest's notification
    writes; `notify` notifies the guest; `close` gives all of it back, the
    page included.
    """

    page: memoryview
    kick_fd: int
    notify: Callable[[], None]
    close: Callable[[], None]


class RingPort:
    """An introduced guest. `is_new`: the ring starts empty."""

    def __init__(
        self,
        owner: Owner,
        link: RingLink,
        connection: Client,
        *,
        is_new: bool,
    ) -> None:
        self.fd = link.kick_fd
        self.connection = connection
        self._owner = owner
        self._link = link
        self._ring = Ring(link.page)
        self._unsent = b""
        self._nr_taken = 0
        self._has_failed = False
        self._has_warned = False
        self._has_waited = False
        self._ring.open(is_new=is_new)
        owner.epoll.register(self.fd, _IN)
        owner.later(self)
        link.notify()

    def on_ready(self, events: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        self.work()

    def work(self) -> None:
        """Handle what the guest has sent, if it has taken what we sent."""
        if self.fd < 0 or self._nr_taken:
            return
        if self._ring.wants_reconnection:
            self.connection.store.reset(self.connection)
            self.connection.reset()
            self._unsent = b""
            self._has_failed = False
            self._ring.open(is_new=True)
            self._link.notify()
        if not self._has_failed:
            self._guarded(self._receive)

    def flush(self) -> None:
        """Send replies, and give back the room of what they answer."""
        if self.fd >= 0 and not self._has_failed:
            self._guarded(self._send)
            if self._has_waited and not self._unsent:
                self._owner.later(self)
            self._has_waited = False

    def _receive(self) -> None:
        connection = self.connection
        if self._unsent or connection.has_output:
            # First the guest takes that; it notifies when it makes room in
            # a full ring.
            self._has_waited = True
            self._owner.to_flush(self)
            return
        data = self._ring.requests()
        if not data:
            return
        if connection.is_midway:
            taken = data[: connection.missing_bytes]
        else:
            most = connection.store.quotas.outstanding
            # A part is taken as well: Linux notifies of the rest only if we
            # had caught up with what it wrote before (xb_write()).
            taken = data[: whole_bytes(data, most=most)] or data
        self._nr_taken = len(taken)
        if connection.receive(taken):
            # Its share of this turn is over; it stays in the ring meanwhile.
            self._nr_taken -= connection.give_back()
        # A part of a large request has no reply to wait for.
        if not connection.has_output:
            self._send()
        if len(data) > self._nr_taken:
            self._owner.later(self)

    def _send(self) -> None:
        connection = self.connection
        nr_sent = 0
        while self._unsent or connection.has_output:
            unsent = self._unsent or b"".join(connection.take_output())
            count = self._ring.put_replies(unsent)
            self._unsent = unsent[count:]
            if not count:
                break
            nr_sent += count
        if self._nr_taken:
            # Only now: a store that is killed in between leaves the request
            # to the next one.
            has_more = self._ring.consume(self._nr_taken)
            if has_more:
                self._owner.later(self)
        if nr_sent or self._nr_taken:
            self._link.notify()
        self._nr_taken = 0

    def _guarded(self, step: Callable[[], None]) -> None:
        """Stop talking to a guest that breaks the rules of the ring."""
        try:
            step()
        except ProtocolError as error:
            # It may reconnect, and break them again, as often as it likes.
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "domain %d: %s; no more replies",
                    *(self.connection.domid, error),
                )
            self._has_failed = True
            self._nr_taken = 0
            self._unsent = b""
            self._ring.fail(error.fault)
            self.connection.store.reset(self.connection)
            self.connection.reset()
            self._link.notify()

    def close(self) -> None:
        """Let go of the ring; the domain is released or bound again."""
        if self.fd >= 0:
            self._owner.epoll.unregister(self.fd)
            self._owner.closed(self)
            self._ring.release()
            self._link.close()
            self.fd = -1
