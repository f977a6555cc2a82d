# SPDX-License-Identifier: GPL-2.0-or-later
"""Which domain a connection acts for, by the kernel and by its launcher.

A launcher registers a domain with a pidfd of its VM process. As long as that
process is not reaped its number is nobody else's, so a connection whose
SO_PEERCRED has the number is that process.
"""

from __future__ import annotations

import array
import os
import select
import struct
from dataclasses import dataclass
from enum import IntEnum

from evtchnd.delivery import GuestPage
from evtchnd.messages import DomainRecord
from xenner import abi
from xenner.types import MAX_DOMID, Domid

HOST = Domid(0)


class Role(IntEnum):
    """EVTCHND_ROLE_*."""

    HOST = abi.EVTCHND_ROLE_HOST
    LAUNCHER = abi.EVTCHND_ROLE_LAUNCHER
    DOMAIN = abi.EVTCHND_ROLE_DOMAIN


@dataclass(slots=True)
class Domain:
    """A registered domain."""

    record: DomainRecord
    pidfd: int
    page: GuestPage | None = None

    @property
    def domid(self) -> Domid:
        return Domid(self.record.domid)

    def has_exited(self) -> bool:
        """Has its VM process ended?"""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close its descriptors."""
        os.close(self.pidfd)
        if self.page is not None:
            self.page.close()


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a connection: what it may, and for which domain."""

    role: Role
    domid: Domid
    only_pid: int | None = None
    """Of a launcher: the process whose domain it may register, itself; None:
    any."""

    @property
    def is_host(self) -> bool:
        return self.role is not Role.DOMAIN


CREDENTIALS_BYTES = struct.calcsize("iII")


@dataclass(frozen=True, slots=True)
class Trusted:
    """Users and groups whose processes act for the host, besides root.
    `launcher_uids` are users whose processes may register themselves."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    launcher_uids: frozenset[int] = frozenset()


NOBODY = Trusted()
"""Root only."""


def identify(
    credentials: bytes,
    groups: bytes,
    domains: dict[int, Domain],
    *,
    trusted: Trusted,
) -> Peer | None:
    """Whose SO_PEERCRED and SO_PEERGROUPS (unix(7)) those are; None: nobody
    we serve."""
    pid, uid, gid = struct.unpack("iII", credentials)
    for domain in domains.values():
        if pid == domain.record.pid and not domain.has_exited():
            return Peer(Role.DOMAIN, domain.domid)
    if uid in (0, os.geteuid()):
        return Peer(Role.LAUNCHER, HOST)
    if uid in trusted.launcher_uids:
        return Peer(Role.LAUNCHER, HOST, only_pid=pid)
    gids = {gid, *array.array("I", groups)}
    if uid in trusted.uids or not gids.isdisjoint(trusted.gids):
        return Peer(Role.HOST, HOST)
    return None


def pid_of(pidfd: int) -> int | None:
    """The process of a pidfd (pidfd_open(2)); None: no pidfd, or ended."""
    with open(f"/proc/self/fdinfo/{pidfd}") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name == "Pid":
                return int(value) if int(value) > 0 else None
    return None


def is_guest_domid(domid: int) -> bool:
    """May a domain have that number?"""
    return 0 < domid <= MAX_DOMID
