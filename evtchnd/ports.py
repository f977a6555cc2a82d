# SPDX-License-Identifier: GPL-2.0-or-later
"""All domains' port tables: what Xen's event_channel.c decides, and no more.

Nothing here rings anything. A method that changes another port than the
named one says which through its result, and the caller tells who holds it.
Errors are PortError with Xen's errno; a method that raises changed nothing.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from xenner import abi
from xenner.types import Domid, Port

_NO_DOMID = Domid(0)
_NO_PORT = Port(0)
_PER_VCPU = frozenset(
    {
        abi.VIRQ_TIMER,
        abi.VIRQ_DEBUG,
        abi.VIRQ_XENOPROF,
        abi.VIRQ_XENPMU,
    }
)


class State(IntEnum):
    """EVTCHNSTAT_* of Xen's public event_channel.h; there are no PIRQs."""

    CLOSED = abi.EVTCHNSTAT_closed
    UNBOUND = abi.EVTCHNSTAT_unbound
    INTERDOMAIN = abi.EVTCHNSTAT_interdomain
    VIRQ = abi.EVTCHNSTAT_virq
    IPI = abi.EVTCHNSTAT_ipi


class PortError(Exception):
    """An operation was refused; `errno` is what the caller is told."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


@dataclass(slots=True, eq=False)
class End:
    """One open port.

    `doorbell_in` and `doorbell_out` name the two directions of the channel:
    ringing `doorbell_out` tells the peer. They belong to the channel, not to
    the port, so they go on to whoever binds the end that is left. 0: no such
    direction.
    """

    domid: Domid
    port: Port
    state: State
    owner: Any = None
    remote_domid: Domid = _NO_DOMID
    peer: End | None = None
    virq: int = 0
    vcpu: int = 0
    doorbell_in: int = 0
    doorbell_out: int = 0
    awaited: Port = _NO_PORT
    """Restored before its peer was: the number that the peer had."""


@dataclass(frozen=True, slots=True)
class Status:
    """What EVTCHNOP_status tells; fields that do not apply are 0."""

    state: State
    vcpu: int = 0
    remote_domid: Domid = _NO_DOMID
    remote_port: Port = _NO_PORT
    virq: int = 0


@dataclass(slots=True)
class _Table:
    """One domain: its open ports by number, its VIRQs."""

    domid: Domid
    nr_ports: int
    nr_vcpus: int
    first: int
    lowest: int
    """No port from `first` up to this one is free."""
    ends: dict[int, End] = field(default_factory=dict)
    virqs: dict[tuple[int, int], End] = field(default_factory=dict)

    def free_port(self, wanted: int) -> Port:
        if wanted:
            if not 0 < wanted < self.nr_ports:
                raise PortError(errno.EINVAL)
            if wanted in self.ends:
                raise PortError(errno.EBUSY)
            return Port(wanted)
        while self.lowest < self.nr_ports:
            if self.lowest not in self.ends:
                return Port(self.lowest)
            self.lowest += 1
        for port in range(1, self.first):
            if port not in self.ends:
                return Port(port)
        raise PortError(errno.ENOSPC)

    def end(self, port: int) -> End:
        """An open port; EINVAL otherwise, as Xen says for both faults."""
        if port not in self.ends:
            raise PortError(errno.EINVAL)
        return self.ends[port]

    def check_port(self, port: int) -> None:
        if not 0 <= port < self.nr_ports:
            raise PortError(errno.EINVAL)

    def check_vcpu(self, vcpu: int) -> None:
        if not 0 <= vcpu < self.nr_vcpus:
            raise PortError(errno.ENOENT)


class Ports:
    """The tables of all domains.

    An `owner` is whatever the caller wants to find a port by later; two
    owners are the same if they are the same object.
    """

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}
        self._doorbells = itertools.count(1)

    def add_domain(
        self, domid: Domid, *, nr_ports: int, nr_vcpus: int, first: int = 1
    ) -> None:
        """Make an empty table. EEXIST: the domain is there.

        `first` is where the search for a free number begins; those below it
        are given out last.
        """
        if domid in self._tables:
            raise PortError(errno.EEXIST)
        self._tables[domid] = _Table(domid, nr_ports, nr_vcpus, first, first)

    def remove_domain(self, domid: Domid) -> list[End]:
        """Close all its ports; returns the ends that lost their peer."""
        peers = self.reset(domid)
        del self._tables[domid]
        return [end for end in peers if end.domid != domid]

    def alloc_unbound(
        self, domid: Domid, remote: Domid, *, port: int = 0, owner: Any = None
    ) -> End:
        """A port that waits for domain `remote`, which need not exist yet."""
        table = self._table(domid)
        end = End(domid, table.free_port(port), State.UNBOUND, owner)
        end.remote_domid = remote
        end.doorbell_in, end.doorbell_out = (
            next(self._doorbells),
            next(self._doorbells),
        )
        return self._open(table, end)

    def bind_interdomain(
        self,
        domid: Domid,
        remote: Domid,
        remote_port: int,
        *,
        port: int = 0,
        owner: Any = None,
    ) -> End:
        """Bind to a port that waits for this domain.

        The caller makes the new end pending at once, for what was sent
        before there was one, and tells the owner of its `peer`.
        """
        remote_table = self._table(remote)
        table = self._table(domid)
        number = table.free_port(port)
        peer = remote_table.end(remote_port)
        if peer.state is not State.UNBOUND or peer.remote_domid != domid:
            raise PortError(errno.EINVAL)
        end = End(domid, number, State.INTERDOMAIN, owner)
        self._open(table, end)
        self._join(end, peer)
        return end

    def bind_virq(
        self,
        domid: Domid,
        virq: int,
        vcpu: int,
        *,
        port: int = 0,
        owner: Any = None,
    ) -> End:
        """A port that a VIRQ makes pending; one for each VIRQ and vCPU."""
        table = self._table(domid)
        if not 0 <= virq < abi.EVTCHND_NR_VIRQS or (is_global(virq) and vcpu):
            raise PortError(errno.EINVAL)
        table.check_vcpu(vcpu)
        if (virq, vcpu) in table.virqs:
            raise PortError(errno.EEXIST)
        end = End(domid, table.free_port(port), State.VIRQ, owner)
        end.virq, end.vcpu = virq, vcpu
        end.doorbell_in = next(self._doorbells)
        table.virqs[virq, vcpu] = end
        return self._open(table, end)

    def bind_ipi(
        self, domid: Domid, vcpu: int, *, port: int = 0, owner: Any = None
    ) -> End:
        """A port that its own domain makes pending on one vCPU."""
        table = self._table(domid)
        table.check_vcpu(vcpu)
        end = End(domid, table.free_port(port), State.IPI, owner)
        end.vcpu = vcpu
        end.doorbell_in = end.doorbell_out = next(self._doorbells)
        return self._open(table, end)

    def bind_vcpu(self, domid: Domid, port: int, vcpu: int) -> None:
        """Choose the vCPU that a port's events go to."""
        table = self._table(domid)
        table.check_vcpu(vcpu)
        end = table.end(port)
        if end.state is State.IPI or (
            end.state is State.VIRQ and not is_global(end.virq)
        ):
            raise PortError(errno.EINVAL)
        end.vcpu = vcpu

    def send(self, domid: Domid, port: int) -> End | None:
        """The end that becomes pending; None: the port has no peer."""
        end = self._table(domid).end(port)
        if end.state is State.IPI:
            return end
        if end.state is State.VIRQ:
            raise PortError(errno.EINVAL)
        return end.peer

    def unmask(self, domid: Domid, port: int) -> None:
        """Check only: the receiver has the masks, as in shared_info."""
        self._table(domid).check_port(port)

    def status(self, domid: Domid, port: int) -> Status:
        """EVTCHNOP_status. A port that is free is CLOSED, and no error."""
        table = self._table(domid)
        table.check_port(port)
        end = table.ends.get(port)
        if end is None:
            return Status(State.CLOSED)
        return Status(
            end.state,
            end.vcpu,
            end.remote_domid,
            end.peer.port if end.peer else Port(0),
            end.virq,
        )

    def close(self, domid: Domid, port: int) -> End | None:
        """Free a port; returns its peer, which waits for `domid` from now."""
        table = self._table(domid)
        end = table.end(port)
        peer = end.peer
        if peer is not None:
            peer.state, peer.peer, end.peer = State.UNBOUND, None, None
        if end.state is State.VIRQ:
            # A global one may have been moved, but was bound on vCPU 0.
            of = 0 if is_global(end.virq) else end.vcpu
            del table.virqs[end.virq, of]
        end.state = State.CLOSED
        del table.ends[end.port]
        if end.port >= table.first:
            table.lowest = min(table.lowest, end.port)
        return peer

    def reset(self, domid: Domid) -> list[End]:
        """Close all ports of a domain; returns the ends that lost their
        peer."""
        return self.close_all(list(self._table(domid).ends.values()))

    def close_all(self, ends: Iterable[End]) -> list[End]:
        """Close these; returns the ends outside them that lost their peer."""
        peers = [
            self.close(end.domid, end.port)
            for end in ends
            if end.state is not State.CLOSED
        ]
        return [
            peer
            for peer in peers
            if peer is not None and peer.state is not State.CLOSED
        ]

    def restore(
        self,
        domid: Domid,
        remote: Domid,
        remote_port: int,
        *,
        port: int,
        owner: Any = None,
    ) -> End:
        """An interdomain port from before a restart, whichever end is first.

        The first waits for the number that its peer had; nobody else can
        take that place but an ordinary bind by the same domain.
        """
        table = self._table(domid)
        number = table.free_port(port or -1)
        remote_table = self._tables.get(remote)
        peer = remote_table.ends.get(remote_port) if remote_table else None
        if peer is None:
            end = self.alloc_unbound(domid, remote, port=port, owner=owner)
            end.awaited = Port(remote_port)
            return end
        if (
            peer.state is not State.UNBOUND
            or peer.remote_domid != domid
            or peer.awaited not in (0, number)
        ):
            raise PortError(errno.EINVAL)
        end = End(domid, number, State.INTERDOMAIN, owner)
        self._open(table, end)
        self._join(end, peer)
        return end

    def restore_unbound(
        self, domid: Domid, remote: Domid, *, port: int, owner: Any = None
    ) -> End:
        """A port from before a restart that was unbound when it was made.

        Its holder is not told who binds it: if that one is back already, it
        waits for this port.
        """
        end = self.alloc_unbound(domid, remote, port=port, owner=owner)
        table = self._tables.get(remote)
        for peer in table.ends.values() if table else ():
            if peer.awaited == end.port and peer.remote_domid == domid:
                end.state = State.INTERDOMAIN
                self._join(end, peer)
                break
        return end

    def virq_end(self, domid: Domid, virq: int, vcpu: int = 0) -> End | None:
        """The port that a VIRQ makes pending, if it is bound."""
        if not 0 <= virq < abi.EVTCHND_NR_VIRQS:
            raise PortError(errno.EINVAL)
        return self._table(domid).virqs.get((virq, vcpu))

    def end(self, domid: Domid, port: int) -> End:
        """The open port of that number. EINVAL: none."""
        return self._table(domid).end(port)

    def count(self, domid: Domid) -> int:
        """How many ports of a domain are open."""
        return len(self._table(domid).ends)

    def ends(self, domid: Domid) -> list[End]:
        """All open ports of a domain."""
        return list(self._table(domid).ends.values())

    def _table(self, domid: Domid) -> _Table:
        if domid not in self._tables:
            raise PortError(errno.ESRCH)
        return self._tables[domid]

    @staticmethod
    def _open(table: _Table, end: End) -> End:
        table.ends[end.port] = end
        return end

    @staticmethod
    def _join(end: End, peer: End) -> None:
        end.remote_domid, end.peer = peer.domid, peer
        end.doorbell_in, end.doorbell_out = peer.doorbell_out, peer.doorbell_in
        peer.state, peer.peer = State.INTERDOMAIN, end
        peer.awaited = Port(0)


def is_global(virq: int) -> bool:
    """Is this VIRQ the domain's and not a vCPU's (virq_is_global in Xen)?"""
    return virq not in _PER_VCPU
