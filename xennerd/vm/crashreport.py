# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are told of a guest that crashed, and the exit status."""

import sys
from collections.abc import Iterator

from xenner import abi
from xenner.types import ShutdownReason
from xennerd.vm import recorder
from xennerd.vm.domain import Machine
from xennerd.vm.kvm.vcpu import Outcome


def describe_crash(machine: Machine, outcome: Outcome) -> str:
    """Registers, stack and the last things the guest asked for."""
    mem = machine.vmcore.mem
    lines = [f"domain {machine.plan.domid} crashed: {outcome.text}"]
    if len(machine.vcpus) > 1:
        lines.append(f"vCPU {outcome.vcpu}:")
    if outcome.registers is not None:
        lines += recorder.format_registers(outcome.registers)
        lines.append(f"cr2: {outcome.cr2:016x}   cr3: {outcome.cr3:016x}")
        words = recorder.stack_words(
            mem, cr3=outcome.cr3, rsp=outcome.registers.rsp
        )
        lines.append("Guest stack trace from rsp:")
        for i in range(0, len(words), 4):
            lines.append("  " + " ".join(f"{w:016x}" for w in words[i : i + 4]))
        if not words:
            lines.append("  (not mapped)")
    lines.append("Last hypercalls and traps (TSC ticks, oldest first):")
    lines += (
        "  " + entry for entry in recorder.last_entries(mem, outcome.vcpu, 24)
    )
    lines += _others(machine, outcome.vcpu)
    return "\n".join(lines)


def _others(machine: Machine, crashed: int) -> Iterator[str]:
    """Where the vCPUs were that did not crash."""
    for vcpu in machine.vcpus:
        if vcpu.number == crashed:
            continue
        state = recorder.vcpu_block(machine.vmcore.mem, vcpu.number).state
        if not state & abi.EMU_VCPU_UP:
            yield f"vCPU {vcpu.number}: down"
            continue
        registers, _cr2, _cr3 = vcpu.registers()
        what = "blocked" if state & abi.EMU_VCPU_BLOCKED else "running"
        yield f"vCPU {vcpu.number}: {what}"
        yield from recorder.format_registers(registers)


def report_end(machine: Machine, outcome: Outcome) -> int:
    """Tell people how it ended; the process's exit status.

    No vCPU may be running. A crash leaves all registers in the vmcore."""
    if outcome.reason not in (ShutdownReason.CRASH, ShutdownReason.WATCHDOG):
        return 0
    machine.publish_registers()
    if outcome.registers is not None:
        machine.vmcore.set_registers(outcome.vcpu, outcome.registers)
    print(describe_crash(machine, outcome), file=sys.stderr, flush=True)
    return 1
