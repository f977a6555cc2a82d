# SPDX-License-Identifier: GPL-2.0-or-later
"""One vCPU: its loop in a thread of its own, and what it hands to Python."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from xenner import abi
from xenner.linebudget import LineBudget
from xenner.types import ShutdownReason
from xennerd.vm import recorder
from xennerd.vm.kvm._vcpu import ffi, lib
from xennerd.vm.memory.corefile import Registers, registers_from
from xennerd.vm.memory.layout import xen_owns

_log = logging.getLogger("xenner")
_exits_log = logging.getLogger("xenner.exits")
_EXIT_NAMES = {
    lib.VCPU_EXIT_KICKED: "kicked",
    lib.VCPU_EXIT_REQUEST: "request from emu",
    lib.VCPU_EXIT_TRIPLE_FAULT: "triple fault",
    lib.VCPU_EXIT_INTERNAL_ERROR: "KVM internal error",
    lib.VCPU_EXIT_FAIL_ENTRY: "KVM could not enter the guest",
    lib.VCPU_EXIT_OTHER: "unexpected exit",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a guest ended, and the registers if that is of interest."""

    reason: ShutdownReason
    text: str = ""
    vcpu: int = 0
    registers: Registers | None = None
    cr2: int = 0
    cr3: int = 0


class Gate:
    """Where vCPU threads wait while their domain is paused or not started."""

    def __init__(self, *, is_open: bool) -> None:
        self._changed = threading.Condition()
        self.is_open = is_open
        self.is_ending = False
        self._nr_waiting = 0
        self.started = {0}
        """vCPUs whose threads are let through, when it is open."""

    def set_open(self, is_open: bool) -> None:
        with self._changed:
            self.is_open = is_open
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.is_ending = True
            self._changed.notify_all()

    def start(self, vcpu: int) -> None:
        """Let a vCPU's thread through from now on; vCPU 0's always is.

        The number is the guest's: one that no vCPU has is not kept."""
        if vcpu >= abi.EMU_MAX_VCPUS:
            return
        with self._changed:
            self.started.add(vcpu)
            self._changed.notify_all()

    def pass_through(self, vcpu: int) -> bool:
        """Wait while closed to this one; False when the domain is to end."""
        with self._changed:
            self._nr_waiting += 1
            self._changed.notify_all()
            while not self.is_ending and not (
                self.is_open and vcpu in self.started
            ):
                self._changed.wait()
            self._nr_waiting -= 1
            return not self.is_ending

    def wait_parked(self, count: int, timeout_s: float) -> bool:
        """Until `count` threads wait here; False on timeout."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._nr_waiting >= count or self.is_ending, timeout_s
            )


class Vcpu:
    """A vCPU of a VM whose memory is `mem`."""

    def __init__(
        self, number: int, fd: int, *, run_bytes: int, mem: Any
    ) -> None:
        self.number = number
        self._mem = mem
        self.thread_id = 0
        self.is_inside = False
        """The thread is in KVM_RUN: the guest runs or is halted."""
        self.nr_kicked_exits = 0
        """How often a kick made the thread leave the guest."""
        # What the thread had used before: trio's threads are used again.
        self.earlier_cpu_s = 0.0
        self._lines = LineBudget(burst=20, per_s=0.2)
        self._loop = lib.vcpu_new(fd, run_bytes)
        if self._loop == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    def close(self) -> None:
        lib.vcpu_free(self._loop)

    def set_start(self, *, rip: int, cr3: int) -> None:
        """Ring 0, long mode, at emu's entry; the contract is abi/layout.h's."""
        end = abi.EMU_VCPU_GPA + (self.number + 1) * abi.EMU_VCPU_BYTES
        start = ffi.new("struct vcpu_start *")
        start.rip, start.cr3 = rip, cr3
        start.rsp = abi.DIRECTMAP_VIRT + end
        start.rdi = self.number
        # Enabled, x2APIC, and the one that starts the machine.
        start.apic_base = 0xFEE00C00 | (0x100 if self.number == 0 else 0)
        _check(lib.vcpu_set_start(self._loop, start), "setting registers")

    def tsc_offset(self) -> int:
        return int(lib.vcpu_tsc_offset(self._loop))

    def nr_exits(self) -> int:
        """Exits from KVM_RUN to this process."""
        return int(lib.vcpu_exits(self._loop))

    def kick(self) -> None:
        """Have run() look at its gate. From any thread."""
        lib.vcpu_kick(self._loop)

    def registers(self) -> tuple[Registers, int, int]:
        """The guest's registers, CR2 and CR3; the loop must not be running."""
        r = self._live_registers()
        block = recorder.vcpu_block(self._mem, self.number)
        # Only what runs outside emu is the guest; the selectors of a software
        # KVM do not tell the ring, so the address must.
        if xen_owns(r.rip) or not block.state & abi.EMU_VCPU_IN_GUEST:
            frame = abi.view(
                "emu_frame", self._mem, self._frame_gpa(block.frame_gpa)
            )
            return _in_frame(frame, r), int(r.cr2), int(r.cr3)
        return registers_from(r), int(r.cr2), int(r.cr3)

    def _live_registers(self) -> Any:
        """The CPU's own, emu's or the guest's; the loop must not be running."""
        r = ffi.new("struct vcpu_registers *")
        _check(lib.vcpu_get_registers(self._loop, r), "reading registers")
        return r

    def _frame_gpa(self, claimed: int) -> int:
        """Where emu says the frame is, if that is in this vCPU's block."""
        start = abi.EMU_VCPU_GPA + self.number * abi.EMU_VCPU_BYTES
        last = start + abi.EMU_VCPU_BYTES - abi.sizeof("emu_frame")
        return claimed if start <= claimed <= last else last

    def run(
        self, gate: Gate, on_request: Callable[[int, Any], None]
    ) -> Outcome | None:
        """Run until the guest ends (its outcome) or the gate says so (None).

        `on_request(nr, request)` hears, in this thread, of every request
        that does not end the guest.
        """
        if self.thread_id != threading.get_native_id():
            self.earlier_cpu_s = time.thread_time()
        self.thread_id = threading.get_native_id()
        lib.vcpu_name_thread(f"vcpu{self.number}".encode())
        try:
            return self._run(gate, on_request)
        finally:
            self.is_inside = False
            # The thread goes back to trio, for whatever comes next.
            lib.vcpu_name_thread(b"xenner")

    def _run(
        self, gate: Gate, on_request: Callable[[int, Any], None]
    ) -> Outcome | None:
        out = ffi.new("struct vcpu_exit *")
        while gate.pass_through(self.number):
            self.is_inside = True
            while True:
                rc = lib.vcpu_run(self._loop, out)
                if rc < 0:
                    return self._broken(f"KVM_RUN failed: {os.strerror(-rc)}")
                _exits_log.debug(
                    "vcpu %d: %s, KVM exit %d, request %d",
                    self.number,
                    _EXIT_NAMES[out.why],
                    out.kvm_reason,
                    out.request,
                )
                if out.why == lib.VCPU_EXIT_KICKED:
                    self.is_inside = False
                    self.nr_kicked_exits += 1
                    break
                outcome = self._look_at(out, on_request)
                if outcome is not None:
                    return outcome
        return None

    def _look_at(
        self, out: Any, on_request: Callable[[int, Any], None]
    ) -> Outcome | None:
        if out.why == lib.VCPU_EXIT_REQUEST:
            return self._request(out.request, on_request)
        if out.why == lib.VCPU_EXIT_TRIPLE_FAULT:
            return self._reset("triple fault: emu itself was damaged")
        if out.why == lib.VCPU_EXIT_INTERNAL_ERROR:
            data = " ".join(f"{out.data[i]:#x}" for i in range(out.nr_data))
            return self._broken(
                f"KVM internal error, suberror {out.request}: {data}"
            )
        if out.why == lib.VCPU_EXIT_FAIL_ENTRY:
            return self._broken(
                f"KVM could not enter the guest, reason {out.data[0]:#x}"
            )
        return self._broken(f"unexpected KVM exit {out.kvm_reason}")

    def _request(
        self, nr: int, on_request: Callable[[int, Any], None]
    ) -> Outcome | None:
        request = recorder.vcpu_block(self._mem, self.number).request
        match nr:
            case abi.EMU_REQUEST_SHUTDOWN:
                try:
                    reason = ShutdownReason(request.arg[0])
                except ValueError:
                    reason = ShutdownReason.CRASH
                if reason is ShutdownReason.CRASH:
                    return self._broken("the guest's kernel reported a crash")
                if reason is ShutdownReason.SUSPEND:
                    # Nobody could wake it up again. 1: called off, which
                    # kernels since SUSPEND_CANCEL (elfnote.h) go on from.
                    if self._lines.take():
                        _log.info("the guest cannot be suspended: it goes on")
                    request.result = 1
                    return None
                return Outcome(reason, vcpu=self.number)
            case abi.EMU_REQUEST_CRASH | abi.EMU_REQUEST_BUG:
                length = min(int(request.length), abi.EMU_REQUEST_DATA_BYTES)
                text = bytes(ffi.buffer(request.data, length))
                prefix = "" if nr == abi.EMU_REQUEST_CRASH else "BUG in emu: "
                return Outcome(
                    ShutdownReason.CRASH,
                    text=prefix + recorder.printable(text),
                    vcpu=self.number,
                    registers=_in_frame(request.frame, self._live_registers()),
                    cr2=int(request.cr2),
                    cr3=int(request.cr3),
                )
            case _:
                on_request(nr, request)
                return None

    def _broken(self, text: str) -> Outcome:
        return self.found(ShutdownReason.CRASH, text)

    def found(self, reason: ShutdownReason, text: str) -> Outcome:
        """An end with the registers as they are; the loop must not be
        running."""
        registers, cr2, cr3 = self.registers()
        return Outcome(
            reason,
            text=text,
            vcpu=self.number,
            registers=registers,
            cr2=cr2,
            cr3=cr3,
        )

    def _reset(self, text: str) -> Outcome:
        """The CPU has nothing to tell: KVM resets an SVM one on a shutdown.

        What emu saved when it was last entered, or returned through, stands
        in its block still; the bases of fs and gs do not.
        """
        block = recorder.vcpu_block(self._mem, self.number)
        frame = abi.view(
            "emu_frame", self._mem, self._frame_gpa(block.frame_gpa)
        )
        return Outcome(
            ShutdownReason.CRASH,
            text=f"{text}; registers of its last entry or exit",
            vcpu=self.number,
            registers=registers_from(frame),
            cr3=int(block.kernel_cr3 if block.in_kernel else block.user_cr3),
        )


def _in_frame(frame: Any, live: Any) -> Registers:
    """Those that emu saved; the others it leaves in the CPU as they were."""
    return replace(
        registers_from(frame),
        **{
            name: int(getattr(live, name))
            for name in ("fs_base", "gs_base", "ds", "es", "fs", "gs")
        },
    )


def _check(rc: int, what: str) -> None:
    if rc < 0:
        raise OSError(-rc, f"{what}: {os.strerror(-rc)}")
