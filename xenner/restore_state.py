# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle's state in evtchnd, to restore it after a restart of evtchnd."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from xenner import abi
from xenner.types import Port

# Ports whose events can move to another vCPU.
_MOVABLE = (abi.EVTCHNSTAT_unbound, abi.EVTCHNSTAT_interdomain)

Request = tuple[int, Sequence[int], dict[str, Any]]
"""EVTCHND_*, the descriptors and the fields of struct evtchnd_request."""


@dataclass(slots=True)
class _Port:
    """A port. It owns its doorbells: in, and out if there is one."""

    state: int
    remote_domid: int
    remote_port: int
    virq: int
    vcpu: int
    doorbells: list[int]


class RestoreState:
    """The handle's domains, memory and ports, with their own descriptors."""

    def __init__(self) -> None:
        self._domains: dict[int, tuple[dict[str, Any], int]] = {}
        self._memory: tuple[int, list[int]] | None = None
        self._ports: dict[Port, _Port] = {}

    def register(self, domain: dict[str, Any], pidfd: int) -> None:
        """A domain was registered: the fields of struct evtchnd_domain."""
        self._domains[domain["domid"]] = (domain, os.dup(pidfd))

    def unregister(self, domid: int) -> None:
        """A domain was unregistered."""
        if domid in self._domains:
            os.close(self._domains.pop(domid)[1])

    def attach(self, pending_gpa: int, fds: Sequence[int]) -> None:
        """The guest's memory was attached: vmcore, irqfd's eventfd."""
        before, self._memory = self._memory, (pending_gpa, _dup(fds))
        if before is not None:
            _close(before[1])

    def add_port(self, reply: Any, doorbells: Sequence[int]) -> None:
        """A port was bound: the struct evtchnd_reply, and its doorbells."""
        self.remove_port(reply.port)
        self._ports[Port(reply.port)] = _Port(
            state=reply.status,
            remote_domid=reply.remote_dom,
            remote_port=reply.remote_port,
            virq=reply.virq,
            vcpu=reply.vcpu,
            doorbells=_dup(doorbells),
        )

    def set_vcpu(self, port: Port, vcpu: int) -> None:
        """A port's events go to another vCPU. A VIRQ stays bound on its
        first."""
        entry = self._ports.get(port)
        if entry is not None and entry.state in _MOVABLE:
            entry.vcpu = vcpu

    def remove_port(self, port: Port) -> None:
        """A port was closed."""
        if port in self._ports:
            _close(self._ports.pop(port).doorbells)

    def remove_ports(self) -> None:
        """All ports were closed."""
        for port in list(self._ports):
            self.remove_port(port)

    def close(self) -> None:
        """Close all descriptors."""
        self.remove_ports()
        for domid in list(self._domains):
            self.unregister(domid)
        if self._memory is not None:
            _close(self._memory[1])
            self._memory = None

    def requests(self) -> Iterator[Request]:
        """The requests that restore the state, in order."""
        for domain, pidfd in self._domains.values():
            yield abi.EVTCHND_REGISTER, [pidfd], {"domain": domain}
        if self._memory is not None:
            pending_gpa, fds = self._memory
            yield abi.EVTCHND_ATTACH, fds, {"value": (pending_gpa, 0)}
        for port, entry in self._ports.items():
            fields = {
                "port": port,
                "remote_dom": entry.remote_domid,
                "remote_port": entry.remote_port,
                "virq": entry.virq,
                "vcpu": entry.vcpu,
                "value": (entry.state, 0),
            }
            yield abi.EVTCHND_RESTORE, entry.doorbells, fields
            if entry.vcpu and entry.state in _MOVABLE:
                moved = {"port": port, "vcpu": entry.vcpu}
                yield abi.EVTCHND_BIND_VCPU, (), moved

    def ring_virqs(self) -> None:
        """Ring each VIRQ once: one may have been raised meanwhile."""
        for entry in self._ports.values():
            if entry.state == abi.EVTCHNSTAT_virq and entry.doorbells:
                with suppress(BlockingIOError):
                    os.eventfd_write(entry.doorbells[0], 1)


def _dup(fds: Iterable[int]) -> list[int]:
    return [os.dup(fd) for fd in fds]


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
