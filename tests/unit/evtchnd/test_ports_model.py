# SPDX-License-Identifier: GPL-2.0-or-later
"""ports.py against a model: any operations, the same answers and tables."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from evtchnd.ports import PortError, Ports, State, Status
from xenner.types import Domid, Port

_NR_PORTS = 7
_NR_VCPUS = 2
_DOMIDS = (0, 1, 2)

# Mostly what can succeed: an operation that is refused changes nothing.
_domids = st.sampled_from((0, 0, 0, 1, 1, 1, 2, 9)).map(Domid)
_ports = st.sampled_from((-1, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7))
_wanted = st.sampled_from((0, 0, 0, 0, 0, 2, 5, -1, _NR_PORTS))
_vcpus = st.sampled_from((0, 0, 0, 1, 1, -1, _NR_VCPUS))
_virqs = st.sampled_from((0, 0, 1, 3, 3, 23, -1, 24))
_owners = st.sampled_from("ab")


@dataclass(frozen=True)
class _Entry:
    """What a port is, said in numbers: no objects point at each other."""

    status: Status
    owner: str
    awaited: int = 0
    virq_vcpu: int = 0


class _RefusedError(PortError):
    """The model's own refusal."""


def _outcome(operation: Callable[[], object]) -> tuple[str, object]:
    try:
        return "returned", operation()
    except PortError as error:
        return "errno", error.errno


class PortsMachine(RuleBasedStateMachine):
    """The model is one flat dictionary; the checks are Xen's, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.ports = Ports()
        self.model: dict[tuple[int, int], _Entry] = {}

    @initialize()
    def make_domains(self) -> None:
        for domid in _DOMIDS:
            self.ports.add_domain(
                Domid(domid), nr_ports=_NR_PORTS, nr_vcpus=_NR_VCPUS
            )

    # -- the model's half of each operation

    def free(self, domid: int, wanted: int) -> int:
        if wanted:
            self.refuse_if(not 0 < wanted < _NR_PORTS, errno.EINVAL)
            self.refuse_if((domid, wanted) in self.model, errno.EBUSY)
            return wanted
        for port in range(1, _NR_PORTS):
            if (domid, port) not in self.model:
                return port
        raise _RefusedError(errno.ENOSPC)

    @staticmethod
    def refuse_if(condition: bool, number: int) -> None:
        if condition:
            raise _RefusedError(number)

    def must_exist(self, domid: int) -> None:
        self.refuse_if(domid not in _DOMIDS, errno.ESRCH)

    def must_be_vcpu(self, vcpu: int) -> None:
        self.refuse_if(not 0 <= vcpu < _NR_VCPUS, errno.ENOENT)

    def entry(self, domid: int, port: int) -> _Entry:
        self.refuse_if((domid, port) not in self.model, errno.EINVAL)
        return self.model[domid, port]

    def set_status(self, key: tuple[int, int], **fields: object) -> None:
        entry = self.model[key]
        status = replace(entry.status, **fields)  # type: ignore[arg-type]
        self.model[key] = replace(entry, status=status)

    def connect(self, domid: int, port: int, key: tuple[int, int]) -> None:
        self.set_status(key, state=State.INTERDOMAIN, remote_port=Port(port))
        self.model[key] = replace(self.model[key], awaited=0)

    def shut(self, domid: int, port: int) -> tuple[int, int] | None:
        status = self.model.pop((domid, port)).status
        if status.state is not State.INTERDOMAIN:
            return None
        key = (int(status.remote_domid), int(status.remote_port))
        self.set_status(key, state=State.UNBOUND, remote_port=Port(0))
        return key

    # -- rules

    @rule(domid=_domids, remote=_domids, wanted=_wanted, owner=_owners)
    def alloc_unbound(
        self, domid: Domid, remote: Domid, wanted: int, owner: str
    ) -> None:
        def expected() -> int:
            self.must_exist(domid)
            port = self.free(domid, wanted)
            status = Status(State.UNBOUND, remote_domid=remote)
            self.model[domid, port] = _Entry(status, owner)
            return port

        self.both(
            expected,
            lambda: (
                self.ports.alloc_unbound(
                    domid, remote, port=wanted, owner=owner
                ).port
            ),
        )

    @rule(
        domid=_domids,
        remote=_domids,
        remote_port=_ports,
        wanted=_wanted,
        owner=_owners,
    )
    def bind_interdomain(
        self,
        domid: Domid,
        remote: Domid,
        remote_port: int,
        wanted: int,
        owner: str,
    ) -> None:
        def expected() -> int:
            self.must_exist(remote)
            self.must_exist(domid)
            port = self.free(domid, wanted)
            peer = self.entry(remote, remote_port).status
            self.refuse_if(
                peer.state is not State.UNBOUND or peer.remote_domid != domid,
                errno.EINVAL,
            )
            self.connect(domid, port, (remote, remote_port))
            status = Status(
                State.INTERDOMAIN,
                remote_domid=remote,
                remote_port=Port(remote_port),
            )
            self.model[domid, port] = _Entry(status, owner)
            return port

        self.both(
            expected,
            lambda: (
                self.ports.bind_interdomain(
                    domid, remote, remote_port, port=wanted, owner=owner
                ).port
            ),
        )

    @rule(
        domid=_domids,
        remote=_domids,
        remote_port=st.integers(1, _NR_PORTS - 1),
        wanted=st.integers(0, _NR_PORTS),
    )
    def restore(
        self, domid: Domid, remote: Domid, remote_port: int, wanted: int
    ) -> None:
        def expected() -> int:
            self.must_exist(domid)
            port = self.free(domid, wanted or -1)
            key = (int(remote), remote_port)
            if key not in self.model:
                status = Status(State.UNBOUND, remote_domid=remote)
                entry = _Entry(status, "r", awaited=remote_port)
                self.model[domid, port] = entry
                return port
            peer = self.model[key]
            self.refuse_if(
                peer.status.state is not State.UNBOUND
                or peer.status.remote_domid != domid
                or peer.awaited not in (0, port),
                errno.EINVAL,
            )
            self.connect(domid, port, key)
            status = Status(
                State.INTERDOMAIN,
                remote_domid=remote,
                remote_port=Port(remote_port),
            )
            self.model[domid, port] = _Entry(status, "r")
            return port

        self.both(
            expected,
            lambda: (
                self.ports.restore(
                    domid, remote, remote_port, port=wanted, owner="r"
                ).port
            ),
        )

    @rule(domid=_domids, virq=_virqs, vcpu=_vcpus, wanted=_wanted)
    def bind_virq(
        self, domid: Domid, virq: int, vcpu: int, wanted: int
    ) -> None:
        def expected() -> int:
            self.must_exist(domid)
            is_global = virq not in (0, 1, 7, 13)
            self.refuse_if(
                not 0 <= virq < 24 or (is_global and vcpu != 0), errno.EINVAL
            )
            self.must_be_vcpu(vcpu)
            self.refuse_if(
                any(
                    key[0] == domid
                    and entry.status.state is State.VIRQ
                    and (entry.status.virq, entry.virq_vcpu) == (virq, vcpu)
                    for key, entry in self.model.items()
                ),
                errno.EEXIST,
            )
            port = self.free(domid, wanted)
            status = Status(State.VIRQ, vcpu=vcpu, virq=virq)
            self.model[domid, port] = _Entry(status, "a", virq_vcpu=vcpu)
            return port

        self.both(
            expected,
            lambda: (
                self.ports.bind_virq(
                    domid, virq, vcpu, port=wanted, owner="a"
                ).port
            ),
        )

    @rule(domid=_domids, vcpu=_vcpus, wanted=_wanted)
    def bind_ipi(self, domid: Domid, vcpu: int, wanted: int) -> None:
        def expected() -> int:
            self.must_exist(domid)
            self.must_be_vcpu(vcpu)
            port = self.free(domid, wanted)
            status = Status(State.IPI, vcpu=vcpu)
            self.model[domid, port] = _Entry(status, "a")
            return port

        self.both(
            expected,
            lambda: (
                self.ports.bind_ipi(domid, vcpu, port=wanted, owner="a").port
            ),
        )

    @rule(domid=_domids, port=_ports, vcpu=_vcpus)
    def bind_vcpu(self, domid: Domid, port: int, vcpu: int) -> None:
        def expected() -> None:
            self.must_exist(domid)
            self.must_be_vcpu(vcpu)
            status = self.entry(domid, port).status
            is_fixed = status.state is State.IPI or (
                status.state is State.VIRQ and status.virq in (0, 1, 7, 13)
            )
            self.refuse_if(is_fixed, errno.EINVAL)
            self.set_status((domid, port), vcpu=vcpu)

        self.both(expected, lambda: self.ports.bind_vcpu(domid, port, vcpu))

    @rule(domid=_domids, port=_ports)
    def send(self, domid: Domid, port: int) -> None:
        def expected() -> tuple[int, int] | None:
            self.must_exist(domid)
            status = self.entry(domid, port).status
            self.refuse_if(status.state is State.VIRQ, errno.EINVAL)
            if status.state is State.IPI:
                return (domid, port)
            if status.state is State.INTERDOMAIN:
                return (status.remote_domid, status.remote_port)
            return None

        def real() -> tuple[int, int] | None:
            end = self.ports.send(domid, port)
            return (end.domid, end.port) if end else None

        self.both(expected, real)

    @rule(domid=_domids, port=_ports)
    def unmask(self, domid: Domid, port: int) -> None:
        def expected() -> None:
            self.must_exist(domid)
            self.refuse_if(not 0 <= port < _NR_PORTS, errno.EINVAL)

        self.both(expected, lambda: self.ports.unmask(domid, port))

    @rule(domid=_domids, port=_ports)
    def close(self, domid: Domid, port: int) -> None:
        def expected() -> tuple[int, int] | None:
            self.must_exist(domid)
            self.entry(domid, port)
            return self.shut(domid, port)

        def real() -> tuple[int, int] | None:
            end = self.ports.close(domid, port)
            return (end.domid, end.port) if end else None

        self.both(expected, real)

    @rule(domid=_domids)
    def reset(self, domid: Domid) -> None:
        def expected() -> set[tuple[int, int]]:
            self.must_exist(domid)
            peers = {
                self.shut(*key) for key in list(self.model) if key[0] == domid
            }
            return {key for key in peers if key and key in self.model}

        def real() -> set[tuple[int, int]]:
            return {(end.domid, end.port) for end in self.ports.reset(domid)}

        self.both(expected, real)

    @rule(owner=_owners)
    def close_owned(self, owner: str) -> None:
        """What happens when the process behind a handle dies."""
        ends = [
            end
            for domid in _DOMIDS
            for end in self.ports.ends(Domid(domid))
            if end.owner == owner
        ]
        assert {(end.domid, end.port) for end in ends} == {
            key for key, entry in self.model.items() if entry.owner == owner
        }
        for key in [k for k, e in self.model.items() if e.owner == owner]:
            self.shut(*key)
        left = self.ports.close_all(ends)
        assert all(end.state is State.UNBOUND for end in left)

    @rule(domid=st.sampled_from(_DOMIDS).map(Domid))
    def replace_domain(self, domid: Domid) -> None:
        for key in [key for key in self.model if key[0] == domid]:
            self.shut(*key)
        self.ports.remove_domain(domid)
        self.ports.add_domain(domid, nr_ports=_NR_PORTS, nr_vcpus=_NR_VCPUS)

    @staticmethod
    def both(
        expected: Callable[[], object], real: Callable[[], object]
    ) -> None:
        """Run both halves; the same result or the same errno."""
        wanted = _outcome(expected)
        assert _outcome(real) == wanted

    # -- what must always hold

    @invariant()
    def tables_agree(self) -> None:
        for domid in _DOMIDS:
            for port in range(_NR_PORTS):
                entry = self.model.get((domid, port))
                status = self.ports.status(Domid(domid), port)
                assert status == (entry or _CLOSED).status

    @invariant()
    def doorbells_cross(self) -> None:
        """Each end rings what the other hears, and no third one hears it."""
        heard: set[int] = set()
        for domid in _DOMIDS:
            for end in self.ports.ends(Domid(domid)):
                assert end.doorbell_in not in heard
                heard.add(end.doorbell_in)
                if end.peer is not None:
                    assert end.peer.peer is end
                    assert end.doorbell_out == end.peer.doorbell_in


_CLOSED = _Entry(Status(State.CLOSED), "")

TestPorts = PortsMachine.TestCase
TestPorts.settings = settings(
    max_examples=120, stateful_step_count=50, deadline=None
)
