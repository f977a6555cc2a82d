# SPDX-License-Identifier: GPL-2.0-or-later
"""All of evtchnd's state and what happens to it: tables, doorbells, domains.

Nothing here waits. Requests come from requests.py, deaths from server.py.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable

from evtchnd.delivery import Doorbells, GuestPage, HandlePage
from evtchnd.domains import HOST, Domain, Peer, is_guest_domid, pid_of
from evtchnd.messages import DomainRecord
from evtchnd.ports import End, PortError, Ports, State
from xenner import abi
from xenner.types import Domid

# xl's default for max_event_channels; each has two descriptors here.
_GUEST_CHANNELS_MAX = 1023
_GUEST_PORTS = (1024, abi.EVTCHND_GUEST_PORTS)
_KERNEL = object()
"""Owner of the end that a host's kernel would have; no handle is it."""


class Handle:
    """One connection: its identity, and its page if it is the host's."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.page: HandlePage | None = None
        # The guest that it has restricted itself to.
        self.only: Domid | None = None

    @property
    def is_greeted(self) -> bool:
        """Has it said HELLO?"""
        return self.page is not None or not self.peer.is_host

    @property
    def owner(self) -> Handle | None:
        """Of the ports it makes: a guest's belong to the domain."""
        return self if self.peer.is_host else None


class Switchboard:
    """The state; each method is one step, whole or not at all.

    `registered` is called with a domain that is new, `unregistered` with one
    that is gone.
    """

    def __init__(
        self,
        *,
        doorbells_max: int,
        registered: Callable[[Domain], None] = lambda domain: None,
        unregistered: Callable[[Domain], None] = lambda domain: None,
    ) -> None:
        self.ports = Ports()
        self.doorbells = Doorbells(most=doorbells_max)
        self.domains: dict[int, Domain] = {}
        self._registered = registered
        self._unregistered = unregistered
        # Not the numbers of an evtchnd before this one.
        start = int.from_bytes(os.urandom(6), "little")
        self._page_ids = itertools.count(start << 16)
        first = 2 + start % (abi.EVTCHND_HOST_PORTS // 2)
        self.ports.add_domain(
            HOST, nr_ports=abi.EVTCHND_HOST_PORTS, nr_vcpus=1, first=first
        )
        self._open_kernel_port()

    def _open_kernel_port(self) -> None:
        port = abi.EVTCHND_XENSTORE_PORT
        end = self.ports.alloc_unbound(HOST, HOST, port=port, owner=_KERNEL)
        self.doorbells.open(end)

    def greet(self, handle: Handle, fds: list[int]) -> None:
        """HELLO: a host's handle gets its page, or hands in the old one."""
        if handle.page is not None or not handle.peer.is_host:
            return
        page_id = next(self._page_ids)
        try:
            handle.page = (
                HandlePage.adopt(page_id, fds)
                if fds
                else HandlePage.make(page_id)
            )
        except OSError as error:
            raise PortError(error.errno or errno.EMFILE) from error

    def leave(self, handle: Handle) -> None:
        """A connection ended: its ports close, a guest's stay."""
        if handle.peer.is_host:
            self.close_ends(
                end for end in self.ports.ends(HOST) if end.owner is handle
            )
        if handle.page is not None:
            handle.page.close()
            handle.page = None

    def open_doorbells(self, end: End, fds: list[int] | None = None) -> End:
        """Give a new end its doorbells (or those of before a restart).

        If that fails the end is closed again, as if it had never been.
        """
        try:
            if fds is None:
                self.doorbells.open(end)
            else:
                self.doorbells.adopt(end, fds)
        except PortError:
            self.close_ends([end])
            raise
        if end.peer is not None:
            self._tell(end.peer)
        return end

    def check_room(self, domid: Domid) -> None:
        """ENOSPC if a guest has as many channels as one may have."""
        if domid != HOST and self.ports.count(domid) >= _GUEST_CHANNELS_MAX:
            raise PortError(errno.ENOSPC)

    def close_ends(self, ends: Iterable[End]) -> None:
        """Close ports and notify the ends that lost their peer."""
        for end in list(ends):
            if end.state is State.CLOSED:
                continue
            peer = self.ports.close(end.domid, end.port)
            if peer is None:
                self.doorbells.drop(end)
            else:
                self._tell(peer)

    def register(self, record: DomainRecord, pidfd: int) -> None:
        """A launcher's new domain; takes the pidfd if it succeeds."""
        pid = pid_of(pidfd)
        if (
            pid is None
            or not is_guest_domid(record.domid)
            or record.nr_ports not in _GUEST_PORTS
            or record.nr_vcpus < 1
        ):
            raise PortError(errno.EINVAL)
        if any(domain.record.pid == pid for domain in self.domains.values()):
            raise PortError(errno.EBUSY)
        self.ports.add_domain(
            Domid(record.domid),
            nr_ports=record.nr_ports,
            nr_vcpus=record.nr_vcpus,
        )
        record = DomainRecord(
            domid=record.domid,
            nr_ports=record.nr_ports,
            nr_vcpus=record.nr_vcpus,
            nr_pages=record.nr_pages,
            pid=pid,
            handle=record.handle,
        )
        domain = Domain(record, pidfd)
        self.domains[record.domid] = domain
        self._registered(domain)

    def unregister(self, domid: int) -> None:
        """A domain is gone, its ports with it. ESRCH: there is none."""
        domain = self._domain(domid)
        self.close_ends(self.ports.ends(domain.domid))
        self.ports.remove_domain(domain.domid)
        del self.domains[domid]
        self._unregistered(domain)
        domain.close()
        self.raise_virq(abi.VIRQ_DOM_EXC)

    def shut_down(self, domid: int, reason: int) -> None:
        """A domain ended by itself; it stays until it is unregistered."""
        domain = self._domain(domid)
        domain.record = domain.record.shut_down(reason)
        self.raise_virq(abi.VIRQ_DOM_EXC)

    def attach(
        self, domid: Domid, fds: list[int], *, offset: int, nr_bytes: int
    ) -> None:
        """A VM process hands in where its guest's pending bits are."""
        domain = self._domain(domid)
        page = GuestPage.adopt(
            next(self._page_ids), fds, offset=offset, nr_bytes=nr_bytes
        )
        if domain.page is not None:
            domain.page.close()
        domain.page = page
        for end in self.ports.ends(domid):
            if end.peer is not None:
                self._tell(end.peer)

    def raise_virq(self, virq: int, vcpu: int = 0) -> None:
        """Make a VIRQ of the host pending, if somebody has bound it."""
        end = self.ports.virq_end(HOST, virq, vcpu)
        if end is not None:
            self.doorbells.ring(end)

    def page_of(self, end: End) -> HandlePage | GuestPage | None:
        """Where a host may set the pending bit of an end itself."""
        if isinstance(end.owner, Handle):
            return end.owner.page
        domain = self.domains.get(end.domid)
        return domain.page if domain else None

    def info(self, domid: int) -> DomainRecord:
        """The first domain from `domid` on. ESRCH: there is none."""
        if domid == HOST:
            return DomainRecord(nr_vcpus=1, nr_ports=abi.EVTCHND_HOST_PORTS)
        later = [number for number in self.domains if number >= domid]
        if not later:
            raise PortError(errno.ESRCH)
        return self.domains[min(later)].record

    def close(self) -> None:
        """Close all descriptors."""
        for domain in self.domains.values():
            domain.close()
        self.domains.clear()
        self.doorbells.close()

    def _domain(self, domid: int) -> Domain:
        if domid not in self.domains:
            raise PortError(errno.ESRCH)
        return self.domains[domid]

    @staticmethod
    def _tell(end: End) -> None:
        if isinstance(end.owner, Handle) and end.owner.page is not None:
            end.owner.page.move_generation()
