# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's structures of both widths, compared with what is known of them.

Sizes are those that Xen's own headers are checked with in its tree
(tools/include/xen-foreign), offsets those that kernels' sources rely on.
"""

import pytest

from xenner import abi
from xenner.layouts import X86_32, X86_64, Layout


@pytest.mark.parametrize(
    ("struct", "narrow", "wide"),
    [
        ("start_info", 1112, 1168),
        ("trap_info", 8, 16),
        ("cpu_user_regs", 68, 200),
        ("vcpu_guest_context", 2800, 5168),
        ("vcpu_info", 64, 64),
        ("arch_shared_info", 28, 48),
        ("shared_info", 2344, 3136),
    ],
)
def test_sizes(struct: str, narrow: int, wide: int) -> None:
    assert X86_32.sizeof(struct) == narrow
    assert X86_64.sizeof(struct) == wide


@pytest.mark.parametrize(
    ("path", "narrow", "wide"),
    [
        (("start_info", "nr_pages"), 32, 32),
        (("start_info", "store_mfn"), 44, 56),
        (("start_info", "console", "domU", "evtchn"), 56, 80),
        (("start_info", "pt_base"), 60, 88),
        (("start_info", "cmd_line"), 80, 128),
        (("start_info", "first_p2m_pfn"), 1104, 1152),
        (("shared_info", "vcpu_info", 1), 64, 64),
        (("shared_info", "evtchn_pending"), 2048, 2048),
        (("shared_info", "evtchn_mask"), 2176, 2560),
        (("shared_info", "wc_version"), 2304, 3072),
        (("shared_info", "arch", "pfn_to_mfn_frame_list_list"), 2320, 3096),
        (("vcpu_guest_context", "user_regs"), 516, 520),
        (("vcpu_guest_context", "user_regs", "eip"), 516 + 32, 520 + 128),
        (("vcpu_guest_context", "ctrlreg", 3), 2716 + 12, 4984 + 24),
    ],
)
def test_offsets(
    path: tuple[str, *tuple[str, ...]], narrow: int, wide: int
) -> None:
    assert X86_32.offsetof(*path) == narrow
    assert X86_64.offsetof(*path) == wide


def test_the_wall_clocks_upper_half() -> None:
    assert X86_32.offsetof("shared_info", "arch", "wc_sec_hi") == 2340
    assert X86_64.offsetof("shared_info", "wc_sec_hi") == 3084


@pytest.mark.parametrize("layout", [X86_32, X86_64])
def test_the_wall_clock(layout: Layout) -> None:
    page = bytearray(4096)
    info = layout.view("shared_info", page)
    layout.set_wall_clock(info, (5 << 32) + 7, 9)
    at = layout.offsetof("shared_info", "wc_version")
    assert page[at : at + 12 : 4] == bytes((2, 7, 9))
    assert page.count(5) == 1


def test_ports_are_a_word_of_words() -> None:
    for layout, ports in ((X86_32, 1024), (X86_64, 4096)):
        info = layout.new("shared_info")
        assert len(info.evtchn_mask) * layout.word_bytes * 8 == ports
        assert len(info.vcpu_info) == abi.EMU_MAX_VCPUS


def test_selectors_are_those_of_the_flat_segments() -> None:
    assert (X86_32.kernel_cs, X86_32.kernel_ss) == (0xE019, 0xE021)
    assert (X86_64.kernel_cs, X86_64.kernel_ss) == (0xE033, 0xE02B)


def test_what_is_the_same_in_both_widths() -> None:
    assert abi.sizeof("evtchn_status") == 24
    assert abi.sizeof("evtchn_bind_interdomain") == 12
    assert abi.sizeof("grant_entry_v1") == 8
    assert abi.offsetof("xencons_interface", "in_cons") == 3072
    assert abi.offsetof("xenstore_domain_interface", "server_features") == 2064
    assert (abi.EVTCHNOP_status, abi.EVTCHNSTAT_ipi) == (5, 5)
    assert (abi.VIRQ_DOM_EXC, abi.VIRQ_XENPMU) == (3, 13)
    assert abi.XEN_CPUID_FIRST_LEAF == 0x4000_0000
