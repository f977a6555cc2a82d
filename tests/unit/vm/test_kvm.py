# SPDX-License-Identifier: GPL-2.0-or-later
"""linux/kvm.h as Python has it: what strace shows, and api.rst of Linux."""

import pytest

from xennerd.vm.kvm._vcpu import ffi, lib


def test_numbers_are_the_kernels() -> None:
    assert lib.KVM_API_VERSION == 12
    assert lib.KVM_CREATE_VM == 0xAE01
    assert lib.KVM_CREATE_IRQCHIP == 0xAE60
    # _IOW and _IOWR: direction, size of the structure, type, number.
    assert lib.KVM_SET_USER_MEMORY_REGION == 0x4020AE46
    assert lib.KVM_GET_SUPPORTED_CPUID == 0xC008AE05
    assert lib.KVM_SET_CPUID2 == 0x4008AE90
    assert lib.KVM_IRQFD == 0x4020AE76
    assert lib.KVM_IOEVENTFD == 0x4040AE79
    assert lib.KVM_CAP_IMMEDIATE_EXIT == 136


@pytest.mark.parametrize(
    ("name", "size_bytes"),
    [
        ("kvm_userspace_memory_region", 32),
        ("kvm_cpuid_entry2", 40),
        ("kvm_cpuid2", 8),
        ("kvm_irqfd", 32),
        ("kvm_ioeventfd", 64),
        ("kvm_stats_header", 24),
        ("kvm_stats_desc", 16),
    ],
)
def test_structures_are_the_kernels(name: str, size_bytes: int) -> None:
    assert ffi.sizeof(f"struct {name}") == size_bytes


def test_a_table_holds_its_rows() -> None:
    row = (1, 2, 3, 4, 5, 6, 7)
    table = ffi.new("struct kvm_cpuid2 *", {"nent": 2, "entries": [row, row]})
    assert len(ffi.buffer(table)) == 8 + 2 * 40
    assert bytes(ffi.buffer(table))[48:76:4] == bytes(row)
