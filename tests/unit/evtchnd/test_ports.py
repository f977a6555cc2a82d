# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model does not say: sizes, numbering, what outlives a port."""

import errno

import pytest

from evtchnd.ports import PortError, Ports, State
from xenner.abi import VIRQ_DOM_EXC, VIRQ_TIMER
from xenner.types import Domid

HOST, GUEST = Domid(0), Domid(1)


@pytest.fixture
def ports() -> Ports:
    ports = Ports()
    ports.add_domain(HOST, nr_ports=131072, nr_vcpus=1, first=70000)
    ports.add_domain(GUEST, nr_ports=1024, nr_vcpus=2)
    return ports


@pytest.mark.parametrize("nr_ports", [1024, 4096])
def test_a_guest_has_as_many_ports_as_its_abi(nr_ports: int) -> None:
    ports = Ports()
    ports.add_domain(GUEST, nr_ports=nr_ports, nr_vcpus=1)
    made = [ports.alloc_unbound(GUEST, HOST).port for _ in range(nr_ports - 1)]
    assert made == list(range(1, nr_ports))
    with pytest.raises(PortError) as refusal:
        ports.alloc_unbound(GUEST, HOST)
    assert refusal.value.errno == errno.ENOSPC
    ports.close(GUEST, 17)
    assert ports.alloc_unbound(GUEST, HOST).port == 17


def test_numbers_below_the_first_are_given_out_last() -> None:
    ports = Ports()
    ports.add_domain(HOST, nr_ports=6, nr_vcpus=1, first=4)
    made = [ports.alloc_unbound(HOST, HOST).port for _ in range(5)]
    assert made == [4, 5, 1, 2, 3]
    ports.close(HOST, 2)
    assert ports.alloc_unbound(HOST, HOST).port == 2


def test_doorbells_go_on_to_who_binds_next(ports: Ports) -> None:
    guest = ports.alloc_unbound(GUEST, HOST)
    first = ports.bind_interdomain(HOST, GUEST, guest.port)
    hears, rings = guest.doorbell_in, guest.doorbell_out
    assert ports.close(HOST, first.port) is guest
    assert guest.state is State.UNBOUND
    second = ports.bind_interdomain(HOST, GUEST, guest.port)
    assert (second.doorbell_in, second.doorbell_out) == (rings, hears)
    assert (guest.doorbell_in, guest.doorbell_out) == (hears, rings)


def test_virqs_are_found_by_number_and_vcpu(ports: Ports) -> None:
    timers = [ports.bind_virq(GUEST, VIRQ_TIMER, vcpu) for vcpu in (0, 1)]
    assert ports.virq_end(GUEST, VIRQ_TIMER, 1) is timers[1]
    death = ports.bind_virq(HOST, VIRQ_DOM_EXC, 0)
    assert ports.virq_end(HOST, VIRQ_DOM_EXC) is death
    ports.close(HOST, death.port)
    assert ports.virq_end(HOST, VIRQ_DOM_EXC) is None


def test_a_global_virq_may_move_and_still_closes(ports: Ports) -> None:
    end = ports.bind_virq(GUEST, VIRQ_DOM_EXC, 0)
    ports.bind_vcpu(GUEST, end.port, 1)
    ports.close(GUEST, end.port)
    ports.bind_virq(GUEST, VIRQ_DOM_EXC, 0)


def test_ports_of_a_removed_domain_leave_their_peers_unbound(
    ports: Ports,
) -> None:
    guest = ports.alloc_unbound(GUEST, HOST)
    host = ports.bind_interdomain(HOST, GUEST, guest.port)
    assert ports.remove_domain(GUEST) == [host]
    assert ports.status(HOST, host.port).state is State.UNBOUND
    with pytest.raises(PortError) as refusal:
        ports.status(GUEST, guest.port)
    assert refusal.value.errno == errno.ESRCH


def test_a_restored_port_waits_for_the_same_peer(ports: Ports) -> None:
    host = ports.restore(HOST, GUEST, 5, port=80000)
    with pytest.raises(PortError):
        ports.restore(GUEST, HOST, host.port, port=6)
    guest = ports.restore(GUEST, HOST, host.port, port=5)
    assert guest.peer is host
    assert guest.doorbell_in == host.doorbell_out


def test_a_domain_is_there_once(ports: Ports) -> None:
    with pytest.raises(PortError) as refusal:
        ports.add_domain(GUEST, nr_ports=1024, nr_vcpus=1)
    assert refusal.value.errno == errno.EEXIST
