# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading counters, flight recorder and stacks out of a guest's memory."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xenner import abi
from xennerd.vm import recorder
from xennerd.vm.memory.corefile import Registers, registers_from

MEM_BYTES = 8 << 20
PRESENT = 0x1
LARGE = 0x80
CR3 = 0x500000


def memory() -> bytearray:
    return bytearray(MEM_BYTES)


def put(mem: bytearray, table: int, index: int, entry: int) -> None:
    mem[table + index * 8 : table + index * 8 + 8] = entry.to_bytes(8, "little")


def map_page(mem: bytearray, virt: int, gpa: int) -> None:
    """Tables at CR3 and the three pages after it."""
    tables = [CR3 + i * 4096 for i in range(4)]
    for level, shift in enumerate((39, 30, 21)):
        put(mem, tables[level], virt >> shift & 511, tables[level + 1] | 1)
    put(mem, tables[3], virt >> 12 & 511, gpa | PRESENT)


def trace(mem: bytearray, slot: int) -> Any:
    at = abi.EMU_VCPU_GPA + abi.EMU_VCPU_TRACE_OFFSET
    return abi.view("emu_trace", mem, at + slot * abi.sizeof("emu_trace"))


def test_counters_go_by_name() -> None:
    mem = memory()
    c = recorder.vcpu_block(mem, 0).counters
    c.hypercall[1], c.hypercall[29], c.hypercall[63] = 7, 2, 1
    c.trap[14], c.privop[abi.EMU_PRIVOP_CPUID] = 5, 3
    c.syscall, c.irq, c.hypercall_unknown = 11, 13, 17
    counters = recorder.counters(mem, 0)
    assert counters["hypercalls"] == {"mmu_update": 7, "sched_op": 2, "63": 1}
    assert counters["traps"] == {"page_fault": 5}
    assert counters["privops"] == {"cpuid": 3}
    assert (counters["syscall"], counters["irq"]) == (11, 13)


def test_vcpus_have_counters_of_their_own() -> None:
    mem = memory()
    recorder.vcpu_block(mem, 3).counters.iret = 9
    assert recorder.counters(mem, 3)["iret"] == 9
    assert recorder.counters(mem, 0)["iret"] == 0


def test_last_entries_are_the_newest_oldest_first() -> None:
    mem = memory()
    for i in range(200):
        t = trace(mem, i % abi.EMU_TRACE_ENTRIES)
        t.kind, t.nr, t.tsc = abi.EMU_TRACE_HYPERCALL, 29, 1000 + i
        t.result = (1 << 64) - 38
    recorder.vcpu_block(mem, 0).trace_next = 200
    lines = list(recorder.last_entries(mem, 0, 3))
    assert [line.split()[0] for line in lines] == ["+0", "+1", "+2"]
    assert all("sched_op" in line and "= -38" in line for line in lines)
    assert len(list(recorder.last_entries(mem, 0, 10_000))) == 128


def test_what_was_repeated_is_one_line() -> None:
    mem = memory()
    for slot, tsc in enumerate((1000, 1500)):
        t = trace(mem, slot)
        t.kind, t.nr, t.tsc = abi.EMU_TRACE_HYPERCALL, 29, tsc
    t.repeats, t.last_tsc = 747_197, 900_001_000
    recorder.vcpu_block(mem, 0).trace_next = 2
    once, often = recorder.last_entries(mem, 0, 24)
    assert "times" not in once
    assert often.endswith(" = 0, 747198 times until +900000000")


def test_a_recorder_that_was_never_written_is_empty() -> None:
    assert list(recorder.last_entries(memory(), 0, 24)) == []


@given(
    words=st.lists(
        st.integers(min_value=0, max_value=(1 << 64) - 1),
        min_size=6,
        max_size=6,
    ),
    kind=st.integers(min_value=0, max_value=(1 << 32) - 1),
    newest=st.integers(min_value=0, max_value=(1 << 32) - 1),
)
def test_whatever_the_guest_writes_is_only_shown(
    words: list[int], kind: int, newest: int
) -> None:
    mem = bytearray(4 << 20)
    for slot in range(abi.EMU_TRACE_ENTRIES):
        t = trace(mem, slot)
        t.tsc, t.rip, t.result = words[0], words[1], words[2]
        t.arg = words[3:5]
        t.kind, t.nr = kind % 8, words[5] % (1 << 32)
        t.repeats, t.last_tsc = words[3] % (1 << 32), words[4]
    recorder.vcpu_block(mem, 0).trace_next = newest
    for line in recorder.last_entries(mem, 0, 128):
        assert "\n" not in line


def test_translation_follows_the_tables() -> None:
    mem = memory()
    virt = 0xFFFFC9004000BA00
    map_page(mem, virt, 0x600000)
    assert recorder.translate(mem, CR3, virt) == 0x600A00
    # Flags in the root are not part of its address.
    assert recorder.translate(mem, CR3 | 0x18, virt) == 0x600A00
    assert recorder.translate(mem, CR3, virt + 4096) is None
    assert recorder.translate(mem, CR3, 0) is None


def test_translation_of_a_large_page() -> None:
    mem = memory()
    put(mem, CR3, 0, CR3 + 4096 | PRESENT)
    put(mem, CR3 + 4096, 0, CR3 + 8192 | PRESENT)
    put(mem, CR3 + 8192, 1, 0x400000 | PRESENT | LARGE)
    assert recorder.translate(mem, CR3, 0x212345) == 0x412345


def test_tables_outside_memory_map_nothing() -> None:
    mem = memory()
    assert recorder.translate(mem, 1 << 45, 0) is None
    put(mem, CR3, 0, (1 << 45) | PRESENT)
    assert recorder.translate(mem, CR3, 0) is None
    map_page(mem, 0x5000, 1 << 40)
    assert recorder.translate(mem, CR3, 0x5000) is None


@given(
    data=st.binary(min_size=8, max_size=8), virt=st.integers(0, (1 << 64) - 1)
)
def test_any_tables_end_somewhere_inside(data: bytes, virt: int) -> None:
    mem = data * 8192
    gpa = recorder.translate(mem, 0, virt)
    assert gpa is None or 0 <= gpa < len(mem)
    words = recorder.stack_words(mem, cr3=0, rsp=virt)
    assert len(words) <= 32


def test_stack_stops_where_nothing_is_mapped() -> None:
    mem = memory()
    map_page(mem, 0x7000, 0x600000)
    for i in range(512):
        put(mem, 0x600000, i, i)
    words = recorder.stack_words(mem, cr3=CR3, rsp=0x7FF0)
    assert words == [510, 511]
    assert recorder.stack_words(mem, cr3=CR3, rsp=0x9000) == []


def test_registers_are_shown_like_xens() -> None:
    lines = list(
        recorder.format_registers(Registers(rip=0xABC, cs=0xE033, r15=0x15))
    )
    assert lines[0] == "RIP:    e033:[<0000000000000abc>]"
    assert "r15: 0000000000000015" in "\n".join(lines)


def test_a_frame_becomes_registers() -> None:
    mem = bytearray(abi.sizeof("emu_frame"))
    frame = abi.view("emu_frame", mem)
    frame.rip, frame.r15, frame.ss = 1, 2, 3
    registers = registers_from(frame)
    assert (registers.rip, registers.r15, registers.ss) == (1, 2, 3)


def test_guests_text_steers_no_terminal() -> None:
    assert recorder.printable(b"plain words") == "plain words"
    for text in (b"a\x1b[2Jb", b"a\nb", b"a\0b", b"a\xffb", b"a\x9bb"):
        shown = recorder.printable(text)
        assert shown.startswith("a")
        assert shown.endswith("b")
        assert shown.isprintable()
