# SPDX-License-Identifier: GPL-2.0-or-later
"""Notifying a guest: its bit, its word's bit, its interrupt, nothing else."""

import os
from collections.abc import Iterator

import pytest

from xenner import abi
from xenner.pending import MappedPending, Pending
from xenner.types import Port

SIZE = abi.sizeof("emu_pending")
BITS = abi.offsetof("emu_pending", "bits")
SELECTOR = abi.offsetof("emu_pending", "selector")


@pytest.fixture
def event_fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def word(memory: bytes | bytearray, at: int) -> int:
    return int.from_bytes(memory[at : at + 8], "little")


@pytest.mark.parametrize("port", [1, 63, 64, 4095])
def test_bit_selector_and_interrupt(port: int, event_fd: int) -> None:
    memory = bytearray(3 * SIZE)
    pending = Pending(memory, SIZE, event_fd)
    pending.notify(Port(port))
    assert word(memory, SIZE + SELECTOR) == 1 << port // 64
    assert word(memory, SIZE + BITS + port // 64 * 8) == 1 << port % 64
    assert sum(byte.bit_count() for byte in memory) == 2
    assert os.eventfd_read(event_fd) == 1


def test_bits_of_others_stay(event_fd: int) -> None:
    memory = bytearray(SIZE)
    pending = Pending(memory, 0, event_fd)
    for port in (65, 66, 65, 3):
        pending.notify(Port(port))
    assert word(memory, SELECTOR) == 0b11
    assert word(memory, BITS) == 1 << 3
    assert word(memory, BITS + 8) == 0b110
    assert os.eventfd_read(event_fd) == 4


def test_a_full_eventfd_is_no_error(event_fd: int) -> None:
    memory = bytearray(SIZE)
    os.eventfd_write(event_fd, (1 << 64) - 2)
    Pending(memory, 0, event_fd).notify(Port(7))
    assert word(memory, BITS) == 1 << 7


@pytest.mark.parametrize("port", [-1, 0, abi.EMU_NR_EVTCHN])
def test_ports_that_no_guest_has(port: int, event_fd: int) -> None:
    memory = bytearray(SIZE)
    with pytest.raises(ValueError, match="no guest"):
        Pending(memory, 0, event_fd).notify(Port(port))
    assert memory == bytes(SIZE)


def test_through_descriptors(event_fd: int) -> None:
    page_fd = os.memfd_create("vmcore")
    os.ftruncate(page_fd, 0x4000)
    offset = 0x2000 + 64
    pending = MappedPending(os.dup(page_fd), offset, os.dup(event_fd))
    pending.notify(Port(2))
    assert word(os.pread(page_fd, SIZE, offset), BITS) == 1 << 2
    pending.close()
    assert os.eventfd_read(event_fd) == 1
    os.close(page_fd)


def test_descriptors_that_cannot_be_mapped_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    empty, event_fd = os.memfd_create("empty"), os.eventfd(0)
    with pytest.raises((OSError, ValueError)):
        MappedPending(empty, 0x1000, event_fd)
    assert len(os.listdir("/proc/self/fd")) == before
