# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's machine, from its start of day until it is closed. running.py
runs its vCPUs and serves what is beside them."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from xenner import abi
from xenner._abi import lib
from xenner.layouts import X86_64
from xenner.pending import Pending
from xenner.types import Domid, Mfn, Port
from xenner.xldisk import Disk
from xenner.xlvif import Vif
from xennerd.nodes.guest import Guest
from xennerd.vm import clock as clocks
from xennerd.vm import recorder
from xennerd.vm.boot.builder import StartOfDay, build_domain
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.channels import GuestChannels
from xennerd.vm.console.console import Sink
from xennerd.vm.console.pump import ConsolePump
from xennerd.vm.console.ring import ConsoleRing
from xennerd.vm.emushared import Domain
from xennerd.vm.guestwatchdog import Watchdogs
from xennerd.vm.kvm._vcpu import ffi
from xennerd.vm.kvm.cpuid import GuestCpuid
from xennerd.vm.kvm.machine import Kvm, Vm
from xennerd.vm.kvm.stats import open_stats, read_stats
from xennerd.vm.kvm.vcpu import Gate, Vcpu
from xennerd.vm.memory.balloon import Balloon
from xennerd.vm.memory.corefile import Registers
from xennerd.vm.memory.layout import PAGE_BYTES
from xennerd.vm.memory.vmcore import Vmcore
from xennerd.vm.notices import EmuLines, Notices
from xennerd.vm.services import DomainServices
from xennerd.vm.store.builtin import OwnStore, RingEnds

# The domain's ports with an outer end, where there is no evtchnd.
_LONE_STORE_PORT = Port(1)
_LONE_CONSOLE_PORT = Port(2)
_GSI_EVTCHN = 24
_PARK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a start of this domain needs; the same for every reboot."""

    domid: Domid
    name: str
    handle: bytes
    cmdline: bytes
    nr_vcpus: int
    quirks: int
    cpuid: GuestCpuid
    emu_image: bytes
    # Not so where xenconsoled serves it.
    is_console_ours: bool = True
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()


@dataclass(frozen=True, slots=True)
class Images:
    """The files that are loaded for each start of day, and dropped after it."""

    kernel: Kernel
    initrd: bytes | None


@dataclass(frozen=True, slots=True)
class StatsFds:
    """KVM's statistics of the VM and of each vCPU, where this KVM has them."""

    vm: int | None
    vcpus: list[int] = field(default_factory=list)


class Machine:
    """One running VM: from a start of day until the guest ends."""

    def __init__(
        self,
        plan: Plan,
        images: Images,
        *,
        vmcore: Vmcore,
        kvm: Kvm,
        is_stopped: bool,
        services: DomainServices | None = None,
        own_store: OwnStore | None = None,
    ) -> None:
        self.plan = plan
        self._services = services
        self._own_store = own_store
        self.channels: GuestChannels | None = None
        self.vmcore = vmcore
        self.balloon = Balloon(vmcore)
        self.notices = Notices()
        self.watchdogs = Watchdogs()
        self.gate = Gate(is_open=not is_stopped)
        self._answering = threading.Lock()
        self.ready_at: float | None = None
        self._emu_lines = EmuLines()
        self._stack = ExitStack()
        try:
            self._create(kvm, images)
        except BaseException:
            self._stack.close()
            raise

    def _create(self, kvm: Kvm, images: Images) -> None:
        self.vm = self._stack.enter_context(Vm(kvm))
        mem = self.vmcore.mem
        buffer = ffi.from_buffer(mem)
        self._stack.callback(ffi.release, buffer)
        self.vm.map_memory(
            int(ffi.cast("uintptr_t", buffer)),
            self.vmcore.layout.ram_ranges(),
        )
        self.vcpus: list[Vcpu] = []
        self.stats_fds = StatsFds(self._keep_stats(self.vm.open_stats()))
        for number in range(self.plan.nr_vcpus):
            fd = self.vm.create_vcpu(number, self.plan.cpuid.kvm)
            vcpu = Vcpu(number, fd, run_bytes=kvm.run_bytes(), mem=mem)
            self._stack.callback(vcpu.close)
            stats_fd = self._keep_stats(open_stats(fd))
            if stats_fd is not None:
                self.stats_fds.vcpus.append(stats_fd)
            self.vcpus.append(vcpu)
        self.tsc_khz = self.vm.tsc_khz(fd)
        self.tsc_offset = self.vcpus[0].tsc_offset()
        self._event_fd = self._eventfd()
        self._pending = Pending(mem, abi.EMU_PENDING_GPA, self._event_fd)
        self.vm.route_msi(_GSI_EVTCHN, abi.EMU_VECTOR_EVTCHN)
        self.vm.irqfd(self._event_fd, _GSI_EVTCHN)
        self._open_first_ports()
        self.start = self._build(images)
        for vcpu in self.vcpus:
            vcpu.set_start(rip=self.start.emu_entry, cr3=self.start.emu_cr3)
        self._introduce()
        guest = self.start.guest
        self.vmcore.set_registers(
            0,
            Registers(
                rip=guest.rip,
                rsp=guest.rsp,
                rsi=guest.start_info_va,
                cs=X86_64.kernel_cs,
                ss=X86_64.kernel_ss,
            ),
        )

    def _introduce(self) -> None:
        """The store that serves it knows the guest, and its ring."""
        guest = self._as_xenstore_has_it()
        if self._own_store is not None:
            gpa = self.start.store_gpa
            page = memoryview(self.vmcore.mem)[gpa : gpa + PAGE_BYTES]
            self._stack.callback(page.release)
            ends = RingEnds(
                page,
                self._store_kick_fd,
                notify=lambda: self.notify(self.store_port),
            )
            self._stack.enter_context(self._own_store.introduced(guest, ends))
        elif self._services is not None:
            self._stack.enter_context(self._services.introduced(guest))

    async def serve_store(self) -> None:
        """Answer the guest where its xenstore is our own, until cancelled."""
        if self._own_store is not None:
            await self._own_store.serve()

    def _as_xenstore_has_it(self) -> Guest:
        plan = self.plan
        return Guest(
            domid=plan.domid,
            name=plan.name,
            handle=uuid.UUID(bytes=plan.handle),
            memory_kib=self.vmcore.layout.start_nr_pages * 4,
            max_memory_kib=self.vmcore.layout.guest_nr_pages * 4,
            nr_vcpus=plan.nr_vcpus,
            store_mfn=Mfn(self.start.store_gpa >> 12),
            store_port=self.store_port,
            console_mfn=Mfn(self.start.console_gpa >> 12),
            console_port=self.console_port,
            cmdline=os.fsdecode(plan.cmdline),
            console_type="xenner" if plan.is_console_ours else "xenconsoled",
            disks=plan.disks,
            vifs=plan.vifs,
        )

    def _open_first_ports(self) -> None:
        """xenstore's and the console's: start_info names them.

        Ours are the other ends, as domain 0, of what is served here."""
        if self._services is None:
            self.store_port = _LONE_STORE_PORT
            self.console_port = _LONE_CONSOLE_PORT
            self._store_kick_fd = self._lone_doorbell(self.store_port)
            self.console_out_fd = self._lone_doorbell(self.console_port)
            return
        self.channels = self._services.start_channels(
            self.vm, vmcore_fd=self.vmcore.fd, event_fd=self._event_fd
        )
        self._stack.callback(self.channels.close)
        self.store_port = self.channels.open_unbound()
        self.console_port = self.channels.open_unbound()
        if self._own_store is not None:
            self._store_kick_fd = self._outer_doorbell(self.store_port)
        if self.plan.is_console_ours:
            self.console_out_fd = self._outer_doorbell(self.console_port)

    def _lone_doorbell(self, port: Port) -> int:
        """What the guest writes when it sends to a port with nobody beside."""
        fd = self._eventfd()
        self.vm.ioeventfd(fd, abi.EMU_PORT_NOTIFY, port)
        return fd

    def _outer_doorbell(self, port: Port) -> int:
        """The same, of a port that evtchnd has made."""
        assert self._services is not None
        host = self._services.host
        channel = host.bind_interdomain(self.plan.domid, port)
        self._stack.callback(host.drop_port, channel.port)
        self._stack.callback(channel.close)
        return channel.in_fd

    def _keep_stats(self, stats_fd: int | None) -> int | None:
        if stats_fd is not None:
            self._stack.callback(os.close, stats_fd)
        return stats_fd

    def _eventfd(self) -> int:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stack.callback(os.close, fd)
        return fd

    def _build(self, images: Images) -> StartOfDay:
        plan = self.plan
        now = clocks.read_moment(self.tsc_offset)
        self.clock = clocks.start_clock(now, self.tsc_khz)
        domain = Domain(
            domid=plan.domid,
            nr_vcpus=plan.nr_vcpus,
            handle=plan.handle,
            quirks=plan.quirks,
            cpuid=plan.cpuid.guest,
            xcr0=plan.cpuid.xcr0,
            tsc_khz=self.tsc_khz,
            clock=self.clock,
            console_port=self.console_port,
            store_port=self.store_port,
            flags=abi.EMU_FLAG_EVTCHND if self.channels else 0,
            is_paused=not self.gate.is_open,
        )
        return build_domain(
            self.vmcore,
            kernel=images.kernel,
            initrd=images.initrd,
            cmdline=plan.cmdline,
            emu_image=plan.emu_image,
            domain=domain,
        )

    def shared_clock(self) -> Any:
        return self._shared().clock

    def _shared(self) -> Any:
        return abi.view("emu_shared", self.vmcore.mem, abi.EMU_SHARED_GPA)

    def open_pump(self, sink: Sink) -> ConsolePump | None:
        """What moves the console's bytes; None: that is xenconsoled's work.

        Its ring is released by the caller.
        """
        if not self.plan.is_console_ours:
            return None
        self._shared().console.ring_gpa = self.start.console_gpa
        return ConsolePump(
            ConsoleRing(memoryview(self.vmcore.mem), self.start.console_gpa),
            sink,
            wake_fd=self.console_out_fd,
            notify=lambda: self.notify(self.console_port),
            set_doorbell=self._set_console_doorbell,
        )

    def _set_console_doorbell(self, waiting_bytes: int) -> None:
        self._shared().console.doorbell_bytes = waiting_bytes
        lib.memory_barrier()

    def mark_ready(self, tell: Callable[[], None]) -> None:
        """The guest begins. Once at each start: emu is the guest's, and may
        say it for ever."""
        if self.ready_at is None:
            self.ready_at = time.monotonic()
            tell()

    def answer(self, nr: int, request: Any) -> None:
        """What emu asks for while the guest runs, in the vCPU's thread.

        One vCPU's request at a time."""
        with self._answering:
            if nr == abi.EMU_REQUEST_CONSOLE:
                self._log(request)
            elif nr == abi.EMU_REQUEST_EVTCHN and self.channels is not None:
                self.channels.perform(request)
            elif nr == abi.EMU_REQUEST_BALLOON:
                self.balloon.perform(request)
            elif nr == abi.EMU_REQUEST_START_VCPU:
                self.gate.start(int(request.arg[0]))
            elif nr == abi.EMU_REQUEST_WATCHDOG:
                self.watchdogs.perform(request)
            elif nr == abi.EMU_REQUEST_NOTICE:
                self.notices.perform(int(request.arg[0]))

    def _log(self, request: Any) -> None:
        length = min(int(request.length), abi.EMU_REQUEST_DATA_BYTES)
        self._emu_lines.write(bytes(ffi.buffer(request.data, length)))

    def notify(self, port: Port) -> None:
        """Raise an event channel from outside the guest."""
        self._pending.notify(port)

    def pause(self) -> None:
        """Stop all vCPUs and show their registers in the vmcore."""
        self.watchdogs.pause()
        self._shared().is_paused = True
        self.gate.set_open(False)
        for vcpu in self.vcpus:
            vcpu.kick()
        if self.gate.wait_parked(len(self.vcpus), _PARK_TIMEOUT_S):
            self.publish_registers()

    def resume(self) -> None:
        self.watchdogs.resume()
        self._shared().is_paused = False
        self.gate.set_open(True)

    def end(self) -> None:
        """Have every vCPU thread return."""
        self.gate.end()
        for vcpu in self.vcpus:
            vcpu.kick()

    def publish_registers(self) -> None:
        """Into the vmcore; no vCPU may be running."""
        if self.ready_at is None:
            return  # The guest has not begun: what it begins with is there.
        for vcpu in self.vcpus:
            registers, _cr2, _cr3 = vcpu.registers()
            self.vmcore.set_registers(vcpu.number, registers)

    def flight_recorders(self) -> Iterator[str]:
        """The last hypercalls and traps of each vCPU, for people."""
        for vcpu in self.vcpus:
            yield f"vcpu {vcpu.number}: last hypercalls and traps"
            yield from recorder.last_entries(
                self.vmcore.mem, vcpu.number, abi.EMU_TRACE_ENTRIES
            )

    def statistics(self) -> dict[str, Any]:
        """Counters of all vCPUs, for people and benchmarks."""
        mem = self.vmcore.mem
        return {
            "traps": sum(
                recorder.total_traps(mem, v.number) for v in self.vcpus
            ),
            "exits_to_userspace": sum(v.nr_exits() for v in self.vcpus),
            "kvm_vcpus": [read_stats(fd) for fd in self.stats_fds.vcpus],
            "vcpus": [recorder.counters(mem, v.number) for v in self.vcpus],
        }

    def memory_bytes(self) -> int:
        """What the guest has of its memory; the rest is the host's again."""
        return self.balloon.actual_bytes()

    def close(self) -> None:
        self._stack.close()


@contextmanager
def open_machine(
    plan: Plan,
    images: Images,
    *,
    vmcore: Vmcore,
    kvm: Kvm,
    is_stopped: bool,
    services: DomainServices | None = None,
    own_store: OwnStore | None = None,
) -> Iterator[Machine]:
    """A machine at its start of day; all of it is gone after the block."""
    machine = Machine(
        plan,
        images,
        vmcore=vmcore,
        kvm=kvm,
        is_stopped=is_stopped,
        services=services,
        own_store=own_store,
    )
    del images  # copied into the guest; the cache's mapping can go
    try:
        yield machine
    finally:
        machine.close()
