# SPDX-License-Identifier: GPL-2.0-or-later
"""What emu leaves in the vmcore for people: counters and the flight recorder.

All of it stands in guest memory and may say anything; it is only shown.
"""

from collections.abc import Iterator
from typing import Any

from xenner import abi
from xennerd.vm.memory.corefile import Registers

HYPERCALLS = (
    "set_trap_table mmu_update set_gdt stack_switch set_callbacks "
    "fpu_taskswitch sched_op_compat platform_op set_debugreg get_debugreg "
    "update_descriptor 11 memory_op multicall update_va_mapping set_timer_op "
    "event_channel_op_compat xen_version console_io physdev_op_compat "
    "grant_table_op vm_assist update_va_mapping_otherdomain iret vcpu_op "
    "set_segment_base mmuext_op xsm_op nmi_op sched_op callback_op xenoprof_op "
    "event_channel_op physdev_op hvm_op sysctl domctl kexec_op tmem_op argo_op "
    "xenpmu_op dm_op hypfs_op"
).split()
"""Names by __HYPERVISOR_* number, public/xen.h."""

TRAPS = (
    "divide_error debug nmi int3 overflow bounds invalid_op device_na "
    "double_fault 9 invalid_tss segment_np stack general_protection page_fault "
    "15 coprocessor alignment machine_check simd 20 control_protection"
).split()
PRIVOPS = "cpuid cr_read cr_write msr_read msr_write io dr other".split()
_KINDS = ("", "hypercall", "trap", "syscall", "irq", "privop")


def printable(text: bytes) -> str:
    """Text of the guest's without what could steer a terminal or a log."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for c in text.decode("utf-8", "replace")
    )


def _name(names: list[str] | tuple[str, ...], nr: int) -> str:
    return names[nr] if nr < len(names) else str(nr)


def vcpu_block(mem: Any, vcpu: int) -> Any:
    """struct emu_vcpu of one vCPU, in place."""
    return abi.view(
        "emu_vcpu", mem, abi.EMU_VCPU_GPA + vcpu * abi.EMU_VCPU_BYTES
    )


def counters(mem: Any, vcpu: int) -> dict[str, Any]:
    """emu's counters, by name; those of zero are left out of the groups."""
    c = vcpu_block(mem, vcpu).counters
    result: dict[str, Any] = {
        "hypercalls": {
            _name(HYPERCALLS, i): int(n) for i, n in enumerate(c.hypercall) if n
        },
        "traps": {_name(TRAPS, i): int(n) for i, n in enumerate(c.trap) if n},
        "privops": {
            _name(PRIVOPS, i): int(n) for i, n in enumerate(c.privop) if n
        },
    }
    for name in (
        "hypercall_unknown soft_int syscall iret irq upcall fixup ring0 "
        "mmu_update tlb_flush block"
    ).split():
        result[name] = int(getattr(c, name))
    return result


def total_traps(mem: Any, vcpu: int) -> int:
    """Entries into emu of every kind."""
    c = vcpu_block(mem, vcpu).counters
    hypercalls = sum(c.hypercall) + c.hypercall_unknown
    return int(hypercalls + sum(c.trap) + c.soft_int + c.syscall + c.irq)


def last_entries(mem: Any, vcpu: int, count: int) -> Iterator[str]:
    """The newest `count` records of the flight recorder, oldest first."""
    base = abi.EMU_VCPU_GPA + vcpu * abi.EMU_VCPU_BYTES
    size = abi.sizeof("emu_trace")
    newest = vcpu_block(mem, vcpu).trace_next
    last_tsc = 0
    for back in range(min(count, abi.EMU_TRACE_ENTRIES), 0, -1):
        slot = (newest - back) % abi.EMU_TRACE_ENTRIES
        at = base + abi.EMU_VCPU_TRACE_OFFSET + slot * size
        t = abi.view("emu_trace", mem, at)
        if not 0 < t.kind < len(_KINDS):
            continue
        last_tsc = last_tsc or t.tsc
        what = _KINDS[t.kind]
        match what:
            case "hypercall":
                text = (
                    f"{_name(HYPERCALLS, t.nr)}({t.arg[0]:#x}, {t.arg[1]:#x})"
                )
                text += f" = {_signed(t.result)}"
            case "trap":
                text = f"{_name(TRAPS, t.nr)} error {t.arg[0]:#x}"
                text += f" address {t.arg[1]:#x}"
            case "privop":
                text = f"{_name(PRIVOPS, t.nr)} {t.arg[0]:#x} {t.arg[1]:#x}"
            case _:
                text = f"{t.nr} {t.arg[0]:#x} {t.arg[1]:#x}"
        if t.repeats:
            times = t.repeats + 1
            text += f", {times} times until {t.last_tsc - last_tsc:+d}"
        yield f"{t.tsc - last_tsc:+12d} {what:9} rip {t.rip:#018x} {text}"


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def format_registers(r: Registers) -> Iterator[str]:
    """Lines as Xen's console shows a guest's registers."""
    yield f"RIP:    {r.cs:04x}:[<{r.rip:016x}>]"
    yield f"RFLAGS: {r.rflags:016x}"
    rows = (
        ("rax", "rbx", "rcx"),
        ("rdx", "rsi", "rdi"),
        ("rbp", "rsp", "r8"),
        ("r9", "r10", "r11"),
        ("r12", "r13", "r14"),
        ("r15", "fs_base", "gs_base"),
    )
    for row in rows:
        yield "   ".join(f"{name:>3}: {getattr(r, name):016x}" for name in row)


def _entry(mem: Any, at: int) -> int:
    if at + 8 > len(mem):
        return 0
    return int.from_bytes(mem[at : at + 8], "little")


def translate(mem: Any, cr3: int, virt: int) -> int | None:
    """Machine address of a guest virtual one, by the guest's own tables.

    None where nothing is mapped; every table address is bounded.
    """
    table = cr3 & 0x000FFFFFFFFFF000
    for shift in (39, 30, 21, 12):
        entry = _entry(mem, table + (virt >> shift & 511) * 8)
        if not entry & 1:
            return None
        table = entry & 0x000FFFFFFFFFF000
        if shift == 12 or (entry & 0x80 and shift < 39):
            gpa = (table & ~((1 << shift) - 1)) | virt & ((1 << shift) - 1)
            return gpa if gpa < len(mem) else None
    return None


def stack_words(mem: Any, *, cr3: int, rsp: int, count: int = 32) -> list[int]:
    """Up to `count` words from rsp up, as far as they are mapped."""
    words = []
    for i in range(count):
        gpa = translate(mem, cr3, (rsp + i * 8) & ((1 << 64) - 1))
        if gpa is None or gpa % 8 or gpa + 8 > len(mem):
            break
        words.append(_entry(mem, gpa))
    return words
