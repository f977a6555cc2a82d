# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPU loop on the real /dev/kvm, with a few bytes of ring-0 code."""

import logging
import mmap
import os
import select
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.environments.rules import limit_s
from xenner import abi
from xenner.types import ShutdownReason
from xennerd.vm import recorder
from xennerd.vm.kvm._vcpu import ffi, lib
from xennerd.vm.kvm.cpuid import guest_cpuid
from xennerd.vm.kvm.machine import Kvm, Vm
from xennerd.vm.kvm.vcpu import Gate, Vcpu

MEM_BYTES = 8 << 20
CODE_GPA = abi.EMU_IMAGE_GPA
ENTRY = abi.DIRECTMAP_VIRT + CODE_GPA
TABLES = [abi.EMU_TABLES_GPA + i * 4096 for i in range(3)]

# out %eax, $EMU_PORT_REQUEST and $EMU_PORT_NOTIFY, after mov $value, %eax
MOV_EAX = b"\xb8"
OUT_REQUEST = bytes((0xE7, abi.EMU_PORT_REQUEST))
OUT_NOTIFY = bytes((0xE7, abi.EMU_PORT_NOTIFY))
SPIN = b"\xeb\xfe"
HLT = b"\xf4"
INCREMENT_RBX = b"\x48\xff\xc3"


def mov_eax(value: int) -> bytes:
    return MOV_EAX + struct.pack("<I", value)


class Box:
    """A VM with one vCPU that runs `code` at emu's entry."""

    def __init__(self, kvm: Kvm, vm: Vm) -> None:
        self.vm = vm
        self.mem = mmap.mmap(-1, MEM_BYTES)
        self._map()
        buffer = ffi.from_buffer(self.mem)
        address = int(ffi.cast("uintptr_t", buffer))
        vm.map_memory(address, [(0, MEM_BYTES)])
        fd = vm.create_vcpu(0, self._cpuid(kvm))
        self.vcpu = Vcpu(0, fd, run_bytes=kvm.run_bytes(), mem=self.mem)
        self.loop = self.vcpu._loop
        self.exit = ffi.new("struct vcpu_exit *")

    def _cpuid(self, kvm: Kvm) -> Any:
        def host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
            return (0, 0, 0, 0)

        return guest_cpuid(
            kvm.supported_cpuid(),
            host=host,
            host_xcr0=0,
            ring3_sees_host=False,
        ).kvm

    def _map(self) -> None:
        """The direct map of the first GiB, at ring 0 only."""
        present_writable_accessed = 0x63
        entries = (
            (TABLES[0], abi.DIRECTMAP_SLOT, TABLES[1]),
            (TABLES[1], 0, TABLES[2]),
            *((TABLES[2], i, i << 21 | 0x80) for i in range(4)),
        )
        for table, index, target in entries:
            struct.pack_into(
                "<Q",
                self.mem,
                table + index * 8,
                target | present_writable_accessed,
            )

    def start(self, code: bytes) -> None:
        self.mem[CODE_GPA : CODE_GPA + len(code)] = code
        self.vcpu.set_start(rip=ENTRY, cr3=TABLES[0])

    def run(self) -> int:
        """One return of the loop; a test that hangs is killed by its kick."""
        watchdog = threading.Timer(limit_s(10), self.vcpu.kick)
        watchdog.start()
        try:
            assert lib.vcpu_run(self.loop, self.exit) == 0
        finally:
            watchdog.cancel()
            watchdog.join()
        return int(self.exit.why)

    def raw_registers(self) -> Any:
        registers = ffi.new("struct vcpu_registers *")
        assert lib.vcpu_get_registers(self.loop, registers) == 0
        return registers


@pytest.fixture
def box(usable_kvm: None) -> Iterator[Box]:
    assert lib.vcpu_signals_init() == 0
    with Kvm() as kvm, Vm(kvm) as vm:
        box = Box(kvm, vm)
        yield box
        box.vcpu.close()


def test_start_state_is_what_emu_is_promised(box: Box) -> None:
    box.start(SPIN)
    r = box.raw_registers()
    assert r.rip == ENTRY
    block_end = abi.EMU_VCPU_GPA + abi.EMU_VCPU_BYTES
    assert r.rsp == abi.DIRECTMAP_VIRT + block_end
    assert (r.rdi, r.rflags, r.cr3) == (0, 2, TABLES[0])
    assert (r.cs, r.ss) == (abi.EMU_CS, abi.EMU_DS) == (0xE008, 0xE010)


def test_a_request_comes_with_its_number_and_goes_on(box: Box) -> None:
    first, second = mov_eax(5) + OUT_REQUEST, mov_eax(7) + OUT_REQUEST
    box.start(first + second + SPIN)
    assert box.run() == lib.VCPU_EXIT_REQUEST
    assert box.exit.request == 5
    assert box.run() == lib.VCPU_EXIT_REQUEST
    assert box.exit.request == 7
    assert box.vcpu.nr_exits() >= 2


@pytest.mark.parametrize("code", [SPIN, HLT + SPIN], ids=["spins", "halts"])
def test_a_kick_ends_the_run_wherever_it_is(box: Box, code: bytes) -> None:
    box.start(code)
    kicker = threading.Timer(0.05, box.vcpu.kick)
    kicker.start()
    assert box.run() == lib.VCPU_EXIT_KICKED
    kicker.join()


def test_a_kick_before_the_run_is_not_lost(box: Box) -> None:
    box.start(SPIN)
    box.vcpu.kick()
    assert box.run() == lib.VCPU_EXIT_KICKED


def test_a_kick_between_request_and_run_completes_the_request(
    box: Box,
) -> None:
    box.start(mov_eax(5) + OUT_REQUEST + SPIN)
    assert box.run() == lib.VCPU_EXIT_REQUEST
    box.vcpu.kick()
    assert box.run() == lib.VCPU_EXIT_KICKED
    # Past the `out`: it is not made a second time.
    assert box.raw_registers().rip == ENTRY + 7


def test_many_kicks_from_many_threads(box: Box) -> None:
    box.start(INCREMENT_RBX + b"\xeb\xfb")
    stop = threading.Event()

    def kick() -> None:
        # The wait also lets the others have the interpreter.
        while not stop.wait(0.0005):
            box.vcpu.kick()

    threads = [threading.Thread(target=kick) for _ in range(2)]
    for thread in threads:
        thread.start()
    returns = [box.run() for _ in range(50)]
    stop.set()
    for thread in threads:
        thread.join()
    assert set(returns) == {lib.VCPU_EXIT_KICKED}


def test_a_notification_with_an_eventfd_does_not_reach_us(box: Box) -> None:
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        box.vm.ioeventfd(eventfd, abi.EMU_PORT_NOTIFY, 2)
        box.start(
            mov_eax(3) + OUT_NOTIFY + mov_eax(2) + OUT_NOTIFY + OUT_REQUEST
        )
        assert box.run() == lib.VCPU_EXIT_REQUEST
        # One notification of port 2, and none of port 3.
        assert os.eventfd_read(eventfd) == 1
    finally:
        os.close(eventfd)


def test_suspends_for_ever_do_not_fill_the_log(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    nr_suspends = 1000
    # mov ecx, nr; again: out; dec ecx; jnz again; then something else.
    again = mov_eax(abi.EMU_REQUEST_SHUTDOWN) + OUT_REQUEST + b"\xff\xc9"
    box.start(
        b"\xb9"
        + nr_suspends.to_bytes(4, "little")
        + again
        + bytes((0x75, 0x100 - len(again) - 2))
        + mov_eax(abi.EMU_REQUEST_CRASH)
        + OUT_REQUEST
    )
    request = recorder.vcpu_block(box.mem, 0).request
    request.arg[0] = ShutdownReason.SUSPEND
    outcome = box.vcpu.run(Gate(is_open=True), lambda nr, request: None)
    assert outcome is not None
    assert outcome.reason is ShutdownReason.CRASH
    assert 0 < len(caplog.records) < nr_suspends // 10


def test_another_size_or_port_is_no_request(box: Box) -> None:
    out_al = bytes((0xE6, abi.EMU_PORT_REQUEST))
    in_eax = bytes((0xE5, abi.EMU_PORT_REQUEST))
    box.start(mov_eax(9) + out_al + in_eax + mov_eax(4) + OUT_REQUEST + SPIN)
    assert box.run() == lib.VCPU_EXIT_REQUEST
    assert box.exit.request == 4


def test_a_damaged_emu_is_a_named_end(box: Box) -> None:
    # No IDT: the exception cannot be delivered, nor the next, nor the third.
    box.start(b"\x0f\x0b")
    assert box.run() in (
        lib.VCPU_EXIT_TRIPLE_FAULT,
        lib.VCPU_EXIT_INTERNAL_ERROR,
    )


def test_an_irqfds_events_go_to_the_kernel(box: Box) -> None:
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        box.vm.route_msi(24, abi.EMU_VECTOR_EVTCHN)
        box.vm.irqfd(eventfd, 24)
        os.eventfd_write(eventfd, 1)
        # The kernel consumed it: nothing left to read.
        readable, _, _ = select.select([eventfd], [], [], 0.2)
        assert not readable
    finally:
        os.close(eventfd)
