# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's services, with the real evtchnd and the real store.

This process is the VM process, its memory a file, and KVM a list of what it
was told.
"""

import errno
import logging
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from tests.support.evtchnd import Daemon, open_daemon
from tests.support.store import StoreProcess
from tests.support.storeclient import new_store
from xenner import abi
from xenner.abi import ffi
from xenner.errors import HostError
from xenner.evtchn import Evtchnd
from xenner.pending import MappedPending
from xenner.types import Domid, Mfn, Port, ShutdownReason
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.nodes.guest import Guest
from xennerd.vm.channels import GuestChannels
from xennerd.vm.services import DomainServices, open_domain_services
from xenstored.guests import Guests

DOMID = Domid(5)
HANDLE = uuid.UUID("12345678-9abc-4def-8123-456789abcdef")
HOST = 0
# EVTCHNOP_* and EVTCHNSTAT_* of xen/event_channel.h.
BIND_INTERDOMAIN, BIND_VIRQ, CLOSE, SEND, STATUS = 0, 1, 3, 4, 5
ALLOC_UNBOUND, BIND_IPI, BIND_VCPU, RESET = 6, 7, 8, 10
CLOSED, UNBOUND, INTERDOMAIN, VIRQ, IPI = 0, 1, 2, 4, 5
VIRQ_DEBUG = 1
VMCORE_PAGES = 1024


@dataclass
class FakeVm:
    """Keeps what it is told; `room` ioeventfds at most."""

    room: int = 1000
    rung: dict[int, int] = field(default_factory=dict)

    def ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        assert port == abi.EMU_PORT_NOTIFY
        if len(self.rung) == self.room:
            raise HostError("KVM cannot attach an ioeventfd: No space left")
        self.rung[value] = os.dup(eventfd)

    def remove_ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        assert port == abi.EMU_PORT_NOTIFY
        os.close(self.rung.pop(value))


@dataclass
class Rig:
    daemon: Daemon
    services: DomainServices
    vm: FakeVm
    channels: GuestChannels
    vmcore: Path
    event_fd: int

    def ask(
        self, cmd: int, form: str, *values: int, length: int | None = None
    ) -> tuple[int, tuple[int, ...]]:
        """A request of emu's: its result and the structure that came back.

        `form` has the bits of each value: "16 32".
        """
        request = ffi.new("struct emu_request *")
        types = [int(size) // 8 for size in form.split()]
        at = 0
        for size, value in zip(types, values, strict=True):
            at = -(-at // size) * size
            data = value.to_bytes(size, "little")
            ffi.memmove(request.data + at, data, size)
            at += size
        request.arg[0] = cmd
        request.length = at if length is None else length
        self.channels.perform(request)
        back, at = [], 0
        for size in types:
            at = -(-at // size) * size
            raw = bytes(ffi.buffer(request.data + at, size))
            back.append(int.from_bytes(raw, "little"))
            at += size
        return int(request.result), tuple(back)

    def alloc(self) -> Port:
        result, (_, _, port) = self.ask(
            ALLOC_UNBOUND, "16 16 32", abi.EVTCHND_SELF, HOST, 0
        )
        assert result == 0
        return Port(port)

    def status(self, port: int) -> tuple[int, ...]:
        """State, vCPU and the two words of the union."""
        result, values = self.ask(
            STATUS, "16 32 32 32 32 32", abi.EVTCHND_SELF, port, 0, 0, 0, 0
        )
        assert result == 0
        return values[2:]


@contextmanager
def entered(
    daemon: Daemon, xenstore: Path | None = None
) -> Iterator[DomainServices]:
    with open_domain_services(
        daemon.path,
        DOMID,
        xenstore=xenstore,
        nr_vcpus=1,
        nr_pages=VMCORE_PAGES,
        handle=HANDLE.bytes,
    ) as services:
        yield services


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with open_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def rig(daemon: Daemon, tmp_path: Path) -> Iterator[Rig]:
    """After it no descriptor is left."""
    vmcore = tmp_path / f"vmcore.{DOMID}"
    vmcore.touch()
    os.truncate(vmcore, VMCORE_PAGES * 4096)
    before = len(os.listdir("/proc/self/fd"))
    vmcore_fd = os.open(vmcore, os.O_RDWR)
    event_fd = os.eventfd(0, os.EFD_NONBLOCK)
    vm = FakeVm()
    with entered(daemon) as services:
        channels = services.start_channels(
            vm, vmcore_fd=vmcore_fd, event_fd=event_fd
        )
        yield Rig(daemon, services, vm, channels, vmcore, event_fd)
        channels.close()
        assert vm.rung == {}
    os.close(vmcore_fd)
    os.close(event_fd)
    assert len(os.listdir("/proc/self/fd")) == before


# evtchnd is killed


def restart(daemon: Daemon) -> None:
    daemon.stop(signal.SIGKILL)
    daemon.start()


def test_channels_outlive_evtchnd(rig: Rig) -> None:
    port = rig.alloc()
    theirs = rig.services.host.bind_interdomain(DOMID, port)
    rig.daemon.stop(signal.SIGKILL)
    # Nobody passes events on, and so they go on.
    os.eventfd_write(rig.vm.rung[port], 1)
    assert os.eventfd_read(theirs.in_fd) >= 1
    rig.daemon.start()
    assert rig.status(port) == (INTERDOMAIN, 0, HOST, theirs.port)
    assert rig.services.host.domids() == [DOMID]
    rig.services.host.close_port(theirs.port)
    assert rig.status(port) == (UNBOUND, 0, HOST, 0)
    theirs.close()
    again = rig.services.host.bind_interdomain(DOMID, port)
    os.eventfd_write(rig.vm.rung[port], 1)
    assert os.eventfd_read(again.in_fd) >= 1
    again.close()


def test_a_restarted_evtchnd_is_told_of_each_kind(rig: Rig) -> None:
    unbound = rig.alloc()
    _, (_, _, virq) = rig.ask(BIND_VIRQ, "32 32 32", VIRQ_DEBUG, 0, 0)
    _, (_, ipi) = rig.ask(BIND_IPI, "32 32", 0, 0)
    before = [rig.status(port) for port in (unbound, virq, ipi)]
    restart(rig.daemon)
    assert [rig.status(port) for port in (unbound, virq, ipi)] == before
    # What was closed before it died does not come back.
    rig.ask(CLOSE, "32", ipi)
    restart(rig.daemon)
    assert rig.status(ipi)[0] == CLOSED
    assert rig.status(virq)[0] == VIRQ


async def test_evtchnd_is_told_without_being_asked(rig: Rig) -> None:
    port = rig.alloc()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.services.keep_connected)
            restart(rig.daemon)
            with Evtchnd(rig.daemon.path) as other:
                # It is another process, which tells nobody.
                while other.domids() != [DOMID]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert rig.status(port) == (UNBOUND, 0, HOST, 0)


def test_without_evtchnd_a_request_is_refused_in_the_end(rig: Rig) -> None:
    port = rig.alloc()
    rig.daemon.stop(signal.SIGKILL)
    rig.daemon.listener.close()
    assert rig.ask(CLOSE, "32", port)[0] == -errno.ECONNREFUSED
    rig.daemon.listen()
    rig.daemon.start()
    assert rig.ask(CLOSE, "32", port)[0] == 0


def test_what_was_dropped_without_evtchnd_does_not_come_back(rig: Rig) -> None:
    port = rig.alloc()
    theirs = rig.services.host.bind_interdomain(DOMID, port)
    rig.daemon.stop(signal.SIGKILL)
    rig.daemon.listener.close()
    rig.services.host.drop_port(theirs.port)
    theirs.close()
    rig.daemon.listen()
    rig.daemon.start()
    rig.services.host.reconnect_if_lost()
    assert rig.services.host.domids() == [DOMID]
    assert rig.status(port) == (UNBOUND, 0, HOST, 0)


# What emu asks for


def test_guest_rings_the_host(rig: Rig) -> None:
    port = rig.alloc()
    assert rig.status(port) == (UNBOUND, 0, HOST, 0)
    theirs = rig.services.host.bind_interdomain(DOMID, port)
    assert rig.status(port) == (INTERDOMAIN, 0, HOST, theirs.port)
    os.eventfd_write(rig.vm.rung[port], 1)
    assert os.eventfd_read(theirs.in_fd) >= 1
    theirs.close()
    assert rig.ask(CLOSE, "32", port)[0] == 0
    assert rig.vm.rung == {}
    assert rig.ask(CLOSE, "32", port)[0] == -errno.EINVAL


def test_host_notifies_the_guest_through_its_page(rig: Rig) -> None:
    port = rig.channels.open_unbound()
    theirs = rig.services.host.bind_interdomain(DOMID, port)
    pending = MappedPending(
        os.dup(theirs.page_fd), theirs.page_offset, os.dup(theirs.doorbell_fd)
    )
    pending.notify(port)
    assert os.eventfd_read(rig.event_fd) == 1
    with rig.vmcore.open("rb") as file:
        file.seek(abi.EMU_PENDING_GPA + abi.offsetof("emu_pending", "bits"))
        assert int.from_bytes(file.read(8), "little") == 1 << port
    pending.close()
    theirs.close()


async def test_doorbells_of_other_guests_are_passed_on(rig: Rig) -> None:
    port = rig.alloc()
    theirs = rig.services.host.bind_interdomain(DOMID, port)
    heard: list[Port] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.channels.serve_doorbells, heard.append)
            os.eventfd_write(theirs.out_fd, 1)
            while not heard:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert heard == [port]
    theirs.close()


def test_virq_and_ipi(rig: Rig) -> None:
    result, (_, _, virq) = rig.ask(BIND_VIRQ, "32 32 32", VIRQ_DEBUG, 0, 0)
    assert result == 0
    assert rig.status(virq)[:3] == (VIRQ, 0, VIRQ_DEBUG)
    assert rig.ask(BIND_VIRQ, "32 32 32", VIRQ_DEBUG, 0, 0)[0] == -errno.EEXIST
    result, (_, ipi) = rig.ask(BIND_IPI, "32 32", 0, 0)
    assert result == 0
    assert rig.status(ipi)[0] == IPI
    assert rig.ask(BIND_IPI, "32 32", 9, 0)[0] == -errno.ENOENT
    assert rig.ask(BIND_VCPU, "32 32", rig.alloc(), 0)[0] == 0
    assert rig.status(77)[0] == CLOSED


def test_guest_binds_what_the_host_offers(rig: Rig) -> None:
    offered = rig.services.host.alloc_unbound(DOMID)
    result, (_, _, port) = rig.ask(
        BIND_INTERDOMAIN, "16 32 32", HOST, offered.port, 0
    )
    assert result == 0
    assert rig.status(port) == (INTERDOMAIN, 0, HOST, offered.port)
    taken = rig.ask(BIND_INTERDOMAIN, "16 32 32", HOST, offered.port, 0)
    assert taken[0] == -errno.EINVAL
    offered.close()


@pytest.mark.parametrize(
    ("cmd", "length"),
    [(SEND, 4), (99, 4), ((1 << 64) - 1, 4), (CLOSE, 3), (CLOSE, 1 << 31)],
)
def test_odd_requests(rig: Rig, cmd: int, length: int) -> None:
    result, _ = rig.ask(cmd, "32", 1, length=length)
    assert result == -errno.EINVAL


def test_no_room_in_kvm(rig: Rig) -> None:
    rig.vm.room = 1
    first = rig.alloc()
    result, _ = rig.ask(ALLOC_UNBOUND, "16 16 32", abi.EVTCHND_SELF, HOST, 0)
    assert result == -errno.ENOSPC
    # The port is not left to nobody.
    rig.vm.room = 2
    assert rig.alloc() == first + 1


def test_reset_is_for_oneself(rig: Rig) -> None:
    ports = [rig.alloc() for _ in range(3)]
    assert rig.ask(RESET, "16", 9)[0] == -errno.EPERM
    assert set(rig.vm.rung) == set(ports)
    assert rig.ask(RESET, "16", abi.EVTCHND_SELF)[0] == 0
    assert rig.vm.rung == {}
    assert rig.status(ports[0])[0] == CLOSED


def test_a_domid_that_is_taken(rig: Rig) -> None:
    with (
        pytest.raises(HostError, match="does not take domain 5"),
        entered(rig.daemon),
    ):
        pass


def test_no_evtchnd(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is it running"):
        Evtchnd(tmp_path / "none")


# A guest's ring, as the store opens it


def test_ring_of_a_guest(rig: Rig) -> None:
    port = rig.channels.open_unbound()
    store = new_store()
    store.introduce(DOMID, 700, port)
    before = len(os.listdir("/proc/self/fd"))
    link = Guests(rig.services.host, rig.vmcore.parent).open_ring(
        store.domains[DOMID]
    )
    link.page[:5] = b"hello"
    with rig.vmcore.open("rb") as file:
        file.seek(700 * 4096)
        assert file.read(5) == b"hello"
    os.eventfd_write(rig.vm.rung[port], 1)
    assert os.eventfd_read(link.kick_fd) >= 1
    link.notify()
    assert os.eventfd_read(rig.event_fd) >= 1
    link.close()
    # The port is free for the next store.
    assert rig.status(port)[0] == UNBOUND
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("domid", "gfn", "has_port"),
    [(5, 0, True), (5, VMCORE_PAGES, True), (5, 700, False), (6, 700, True)],
)
def test_rings_that_cannot_be_had(
    rig: Rig, domid: int, gfn: int, has_port: bool
) -> None:
    port = rig.channels.open_unbound() if has_port else 99
    store = new_store()
    store.introduce(domid, gfn, port)
    before = len(os.listdir("/proc/self/fd"))
    guests = Guests(rig.services.host, rig.vmcore.parent)
    with pytest.raises(OSError):
        guests.open_ring(store.domains[domid])
    assert len(os.listdir("/proc/self/fd")) == before


# xenstore's nodes

GUEST = Guest(
    domid=DOMID,
    name="web",
    handle=HANDLE,
    memory_kib=1024,
    nr_vcpus=1,
    store_mfn=Mfn(700),
    store_port=Port(1),
    console_mfn=Mfn(701),
    console_port=Port(2),
)


def read(store: StoreProcess, path: str) -> str:
    with Xenstore(store.socket_path) as client:
        return client.read(path)


def test_nodes_from_start_to_end(daemon: Daemon, store: StoreProcess) -> None:
    with entered(daemon, store.socket_path) as services:
        with services.introduced(GUEST):
            assert read(store, "/local/domain/5/name") == "web"
            services.request_shutdown("poweroff")
            assert read(store, "/local/domain/5/control/shutdown") == "poweroff"
            services.notify_shutdown(ShutdownReason.POWEROFF)
        for path in ("/local/domain/5", f"/vm/{HANDLE}", "/libxl/5"):
            with pytest.raises(XenstoreError, match="ENOENT"):
                read(store, path)
        # A new start of day: what is left of a killed one goes first.
        with Xenstore(store.socket_path) as client:
            client.write("/local/domain/5/data/old", "x")
        with (
            services.introduced(GUEST),
            pytest.raises(XenstoreError, match="ENOENT"),
        ):
            read(store, "/local/domain/5/data/old")


def test_nodes_need_not_be_text(daemon: Daemon, store: StoreProcess) -> None:
    guest = replace(GUEST, cmdline=os.fsdecode(b"a=\xff"))
    with (
        entered(daemon, store.socket_path) as services,
        services.introduced(guest),
    ):
        cmdline = read(store, f"/vm/{HANDLE}/image/cmdline")
        assert os.fsencode(cmdline) == b"a=\xff"
        # As a guest may, in a node of its own.
        with Xenstore(store.socket_path) as client:
            client.write("/local/domain/5/control/shutdown", "\udcff")
        assert not services.is_request_taken()


def test_a_guest_does_not_say_which_disks_it_has(
    daemon: Daemon, store: StoreProcess
) -> None:
    """Only domain 0's nodes do: not another guest's, nor what is no text."""
    others = "/local/domain/0/backend/vbd/6/51712"
    own = f"/local/domain/0/backend/qdisk/{DOMID}/51728"
    device = f"/local/domain/{DOMID}/device/vbd"
    with (
        entered(daemon, store.socket_path) as services,
        Xenstore(store.socket_path) as client,
    ):
        client.write(f"{others}/params", "/dev/vg/secret")
        client.write(f"{own}/params", "own.img")
        client.write(f"{device}/51712/backend", others)
        client.write(f"{device}/51728/backend", "\udcff\0")
        client.write(f"{device}/51744/backend", "/local/domain/" + "x" * 3000)
        assert services.vbd_nodes() == {51728: {"params": "own.img"}}


def test_a_store_that_was_restarted_is_as_good(
    daemon: Daemon, store: StoreProcess
) -> None:
    with entered(daemon, store.socket_path) as services:
        with services.introduced(GUEST):
            store.kill()
            with pytest.raises(HostError, match="is it running"):
                services.request_shutdown("poweroff")
            store.start()
            services.request_shutdown("reboot")
            assert read(store, "/local/domain/5/control/shutdown") == "reboot"
        with pytest.raises(XenstoreError, match="ENOENT"):
            read(store, "/local/domain/5")


def test_a_store_that_is_gone_at_the_end_is_told(
    daemon: Daemon, store: StoreProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "xenner"),
        entered(daemon, store.socket_path) as services,
        services.introduced(GUEST),
    ):
        store.kill()
    assert [r.getMessage()[:34] for r in caplog.records] == [
        "xenstore has nodes of a guest left"
    ]


def test_no_store(daemon: Daemon, tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="is it running"),
        entered(daemon, tmp_path / "none"),
    ):
        pass
    with (
        entered(daemon) as services,
        services.introduced(GUEST),
        pytest.raises(HostError, match="no xenstore"),
    ):
        services.request_shutdown("poweroff")
