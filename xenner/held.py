# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handle of evtchnd has there, for an evtchnd that was restarted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from xenner import abi
from xenner.types import Port

# Ports whose events go to the vCPU that is asked for.
_MOVABLE = (abi.EVTCHNSTAT_unbound, abi.EVTCHNSTAT_interdomain)

Request = tuple[int, Sequence[int], dict[str, Any]]
"""EVTCHND_*, the descriptors and the fields of struct evtchnd_request."""


@dataclass(slots=True)
class _Held:
    """A port; its doorbells are ours: in, and out if there is one."""

    state: int
    remote_domid: int
    remote_port: int
    virq: int
    vcpu: int
    doorbells: list[int]


class Held:
    """Domains, memory and ports, each with descriptors of its own."""

    def __init__(self) -> None:
        self._domains: dict[int, tuple[dict[str, Any], int]] = {}
        self._memory: tuple[int, list[int]] | None = None
        self._ports: dict[Port, _Held] = {}

    def register(self, domain: dict[str, Any], pidfd: int) -> None:
        """A domain was registered: the fields of struct evtchnd_domain."""
        self._domains[domain["domid"]] = (domain, os.dup(pidfd))

    def unregister(self, domid: int) -> None:
        """It is gone."""
        if domid in self._domains:
            os.close(self._domains.pop(domid)[1])

    def attach(self, pending_gpa: int, fds: Sequence[int]) -> None:
        """The guest's memory is known to evtchnd: vmcore, irqfd's eventfd."""
        before, self._memory = self._memory, (pending_gpa, _dup(fds))
        if before is not None:
            _close(before[1])

    def keep(self, reply: Any, doorbells: Sequence[int]) -> None:
        """A port that a struct evtchnd_reply tells of is ours."""
        self.forget(reply.port)
        self._ports[Port(reply.port)] = _Held(
            state=reply.status,
            remote_domid=reply.remote_dom,
            remote_port=reply.remote_port,
            virq=reply.virq,
            vcpu=reply.vcpu,
            doorbells=_dup(doorbells),
        )

    def move(self, port: Port, vcpu: int) -> None:
        """Its events go to another vCPU. A VIRQ stays bound on its first."""
        held = self._ports.get(port)
        if held is not None and held.state in _MOVABLE:
            held.vcpu = vcpu

    def forget(self, port: Port) -> None:
        """It is closed."""
        if port in self._ports:
            _close(self._ports.pop(port).doorbells)

    def forget_ports(self) -> None:
        """All are closed."""
        for port in list(self._ports):
            self.forget(port)

    def close(self) -> None:
        """Let go of every descriptor."""
        self.forget_ports()
        for domid in list(self._domains):
            self.unregister(domid)
        if self._memory is not None:
            _close(self._memory[1])
            self._memory = None

    def requests(self) -> Iterator[Request]:
        """What an evtchnd that knows nothing has to be told, in order."""
        for domain, pidfd in self._domains.values():
            yield abi.EVTCHND_REGISTER, [pidfd], {"domain": domain}
        if self._memory is not None:
            pending_gpa, fds = self._memory
            yield abi.EVTCHND_ATTACH, fds, {"value": (pending_gpa, 0)}
        for port, held in self._ports.items():
            fields = {
                "port": port,
                "remote_dom": held.remote_domid,
                "remote_port": held.remote_port,
                "virq": held.virq,
                "vcpu": held.vcpu,
                "value": (held.state, 0),
            }
            yield abi.EVTCHND_RESTORE, held.doorbells, fields
            if held.vcpu and held.state in _MOVABLE:
                moved = {"port": port, "vcpu": held.vcpu}
                yield abi.EVTCHND_BIND_VCPU, (), moved

    def ring_virqs(self) -> None:
        """Nobody knows whether one was raised meanwhile: each is told once."""
        for held in self._ports.values():
            if held.state == abi.EVTCHNSTAT_virq and held.doorbells:
                with suppress(BlockingIOError):
                    os.eventfd_write(held.doorbells[0], 1)


def _dup(fds: Iterable[int]) -> list[int]:
    return [os.dup(fd) for fd in fds]


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
