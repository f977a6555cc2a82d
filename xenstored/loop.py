# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop that moves requests and replies, in a thread of its own.

Waking a trio task costs more than a whole request, so here is a bare epoll
loop; trio starts it, stops it and sends it calls (server.py). In each turn
every client that has sent something gets a share, then the journal is
written, then replies and events go out.
"""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from xenstored.ports import (
    RingAbsentError,
    RingLink,
    RingPort,
    SocketPort,
)
from xenstored.statefile import StateFile
from xenstored.store import Client, Domain, Store

_log = logging.getLogger("xenner.store")

_ACCEPTS_PER_TURN = 16
# A guest's way from our reply to its next request takes about 50 us, and as
# much again and more where we sleep meanwhile and are woken.
_SPIN_NS = 100_000
_BRISK_NS = 300_000
# So many requests in a row came as quickly as that: at first, after so many in
# a row that we did not sleep for, and at most, after failures.
_BRISK_AFTER = 16
_BRISK_AGAIN_AFTER = 2
_GOOD_RUN = 32
_BRISK_AFTER_MAX = 256

Port = SocketPort | RingPort
OpenRing = Callable[[Domain], RingLink]


class StoreLoop:
    """All ports of one store. It owns them, not the listening socket.

    `open_ring` gives the ring of an introduced domain, or raises OSError,
    RingAbsentError among them; without it domains are known but silent. All
    methods but `call` and `stop` belong to the loop's thread.
    """

    def __init__(
        self,
        store: Store,
        listener: socket.socket | None,
        *,
        state: StateFile | None = None,
        open_ring: OpenRing | None = None,
    ) -> None:
        self.store = store
        self.epoll = select.epoll()
        self._listener = listener
        self._state = state
        self._open_ring = open_ring
        self._ports: dict[int, Port] = {}
        self._port_of: dict[Client, Port] = {}
        self._dirty: list[Client] = []
        self._busy: dict[Port, None] = {}
        self._is_stopping = False
        self._is_crowded = False
        self._nr_brisk = 0
        self._brisk_after = _BRISK_AFTER
        self._nr_spun = 0
        # With one processor it would be the client's that we take.
        self._spin_ns = _SPIN_NS if len(os.sched_getaffinity(0)) > 1 else 0
        self._calls: deque[Callable[[], None]] = deque()
        self._call_lock = threading.Lock()
        self._call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll.register(self._call_fd, select.EPOLLIN)
        store.wanted = self._dirty.append
        store.attach = self._attach
        store.detach = self._detach

    # From other threads

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function, soon; RuntimeError if it ended."""
        with self._call_lock:
            if self._call_fd < 0:
                raise RuntimeError("the store has ended")
            self._calls.append(function)
            os.eventfd_write(self._call_fd, 1)

    def stop(self) -> None:
        """End `run`, after the turn that it is in, if it has not ended."""
        with suppress(RuntimeError):
            self.call(self._stop)

    def _stop(self) -> None:
        self._is_stopping = True

    # The loop

    def run(self) -> None:
        """Serve until `stop`; then nothing of it is left open."""
        try:
            self._start()
            wait, ports, turn = self._wait, self._ports, self._turn
            while not self._is_stopping:
                for fd, events in wait():
                    port = ports.get(fd)
                    if port is not None:
                        port.on_ready(events)
                    else:
                        self._on_other(fd)
                turn()
        finally:
            self._close()

    def _wait(self) -> list[tuple[int, int]]:
        """Descriptors that are ready, with their events; as epoll.poll.

        To sleep and be woken takes a client that asks one thing after the
        other as long as all else. So while requests come in quick succession
        we look for the next one before we sleep, as KVM does for a vCPU that
        halts (halt_poll_ns). One that does not come in time ends that for a
        while: somebody else may need the processor, the client itself even.
        """
        poll = self.epoll.poll
        if self._busy:
            return poll(0)
        start_ns = time.monotonic_ns()
        if self._nr_brisk >= self._brisk_after:
            until_ns = start_ns + self._spin_ns
            while time.monotonic_ns() < until_ns:
                if ready := poll(0):
                    self._nr_spun += 1
                    return ready
            self._end_spinning()
            return poll(-1)
        ready = poll(-1)
        is_brisk = time.monotonic_ns() - start_ns < _BRISK_NS
        self._nr_brisk = self._nr_brisk + 1 if is_brisk else 0
        return ready

    def _end_spinning(self) -> None:
        """It was in vain, this time: look how often it was not."""
        if self._nr_spun >= _GOOD_RUN:
            self._brisk_after = _BRISK_AGAIN_AFTER
        else:
            self._brisk_after = min(2 * self._brisk_after, _BRISK_AFTER_MAX)
        self._nr_brisk = self._nr_spun = 0

    def _turn(self) -> None:
        """What comes after the requests: late clients, journal, replies."""
        if self._busy:
            busy = list(self._busy)
            self._busy.clear()
            for port in busy:
                port.work()
        self.store.expire()
        if self._state is not None:
            self._state.save()
        if self._dirty:
            dirty = self._dirty.copy()
            self._dirty.clear()
            for connection in dirty:
                sender = self._port_of.get(connection)
                if sender is not None:
                    sender.flush()

    def _start(self) -> None:
        if self._listener is not None:
            self._listener.setblocking(False)
            self.epoll.register(self._listener, select.EPOLLIN)
        self.resume()

    def resume(self) -> bool:
        """Open the rings of domains that an earlier store has left to us, or
        release them. False: some are to be tried again."""
        is_whole = True
        for domain in list(self.store.domains.values()):
            if domain.connection in self._port_of:
                continue
            try:
                self._attach(domain, is_new=False)
            except RingAbsentError:
                is_whole = False
            except OSError as error:
                _log.warning(
                    "domain %d: its ring is gone: %s",
                    *(domain.domid, error.strerror),
                )
                self.store.release(domain.domid)
        return is_whole

    def _close(self) -> None:
        for port in list(self._ports.values()):
            port.close()
        self.epoll.close()
        with self._call_lock:
            os.close(self._call_fd)
            self._call_fd = -1

    def _on_other(self, fd: int) -> None:
        if fd == self._call_fd:
            os.eventfd_read(fd)
            while self._calls:
                self._calls.popleft()()
        elif self._listener is not None and fd == self._listener.fileno():
            self._accept(self._listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                self._is_crowded = False
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # It would be ready for ever; the next client that leaves
                    # makes room.
                    self.epoll.modify(listener, 0)
                    if not self._is_crowded:
                        _log.warning("no more clients: %s", error.strerror)
                    self._is_crowded = True
                return
            self.add_client(client)

    def add_client(
        self, client: socket.socket, domid: int = 0, *, is_guest: bool = False
    ) -> None:
        """Serve a connected stream socket; the loop owns it from now on."""
        connection = self.store.connect(domid, is_privileged=not is_guest)
        port = SocketPort(self, client, connection)
        self._ports[port.fd] = port
        self._port_of[connection] = port

    # From ports and store

    def later(self, port: Port) -> None:
        self._busy[port] = None

    def to_flush(self, port: Port) -> None:
        self._dirty.append(port.connection)

    def closed(self, port: Port) -> None:
        del self._ports[port.fd]
        del self._port_of[port.connection]
        self._busy.pop(port, None)
        if isinstance(port, SocketPort):
            self.store.disconnect(port.connection)
            if self._listener is not None:
                self.epoll.modify(self._listener, select.EPOLLIN)

    def _attach(self, domain: Domain, *, is_new: bool = True) -> None:
        if self._open_ring is None:
            return
        link = self._open_ring(domain)
        port = RingPort(self, link, domain.connection, is_new=is_new)
        self._ports[port.fd] = port
        self._port_of[domain.connection] = port
        if domain.connection.has_output:
            self._dirty.append(domain.connection)

    def _detach(self, domain: Domain) -> None:
        port = self._port_of.get(domain.connection)
        if port is not None:
            port.close()
