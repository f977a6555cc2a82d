# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever the sizes, nothing of the plan overlaps and all of it fits."""

import re

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from xenner.errors import ConfigError
from xennerd.vm.boot.elf import Segment
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.boot.pagetables import table_keys
from xennerd.vm.boot.startofday import Plan, plan_start_of_day
from xennerd.vm.memory.layout import PAGE_BYTES

MIB = 1 << 20
HIGH = 0xFFFFFFFF80000000


def make_kernel(
    *,
    virt_base: int,
    offset: int,
    size_bytes: int,
    init_p2m: int | None,
    mod_start_pfn: bool,
) -> Kernel:
    start = virt_base + offset
    return Kernel(
        segments=(Segment(offset, start, memoryview(b""), size_bytes),),
        entry=start,
        virt_base=virt_base,
        paddr_offset=0,
        init_p2m=init_p2m,
        hypercall_page=None,
        mod_start_pfn=mod_start_pfn,
        features="",
        guest_os="",
        guest_version="",
        pae_mode="",
        virt_start=start,
        virt_end=start + size_bytes,
    )


kernels = st.builds(
    make_kernel,
    virt_base=st.sampled_from([0, 0x400000, 0x12345000, HIGH, 1 << 38]),
    offset=st.integers(0, 32 * MIB // PAGE_BYTES).map(lambda n: n * PAGE_BYTES),
    size_bytes=st.integers(1, 80 * MIB),
    init_p2m=st.sampled_from([None, 0x8000000000, 1 << 46, HIGH + (1 << 30)]),
    mod_start_pfn=st.booleans(),
)


def parts(kernel: Kernel, plan: Plan) -> list[tuple[int, int]]:
    """(first pfn, pages) of everything in use."""
    image = kernel.virt_end - kernel.virt_base
    return [
        (0, -(-image // PAGE_BYTES)),
        (plan.initrd_pfn, plan.initrd_pages),
        (plan.p2m_pfn, plan.p2m_frames),
        (plan.start_info_pfn, 1),
        (plan.store_pfn, 1),
        (plan.console_pfn, 1),
        (plan.tables_pfn, plan.nr_table_frames),
        (plan.stack_pfn, 1),
    ]


@given(
    kernel=kernels,
    nr_pages=st.integers(1, 1 << 20),
    initrd_bytes=st.sampled_from([0, 1, 4096, 4097, 100 * MIB]),
)
def test_plan(kernel: Kernel, nr_pages: int, initrd_bytes: int) -> None:
    try:
        plan = plan_start_of_day(
            kernel, nr_pages=nr_pages, initrd_bytes=initrd_bytes
        )
    except ConfigError:
        reject()  # Too little memory: the next test is about that.
    at = 0
    for pfn, count in sorted(p for p in parts(kernel, plan) if p[1]):
        assert pfn >= at, "two parts overlap"
        at = pfn + count
    assert at <= plan.end_pfn <= nr_pages
    # All tables of all mappings are there, each in a page of its own.
    needed = {key for m in plan.mappings for key in table_keys(m)}
    assert needed == set(plan.table_pfns)
    assert len(set(plan.table_pfns.values())) == len(needed)
    for pfn in plan.table_pfns.values():
        in_list = plan.p2m_pfn <= pfn < plan.p2m_pfn + plan.p2m_frames
        at = pfn - plan.tables_pfn
        assert in_list or 0 <= at < plan.nr_table_frames
    # The root comes first: that is what start_info.pt_base means.
    assert plan.table_pfns[4, 0] == plan.tables_pfn
    region = plan.mappings[0]
    assert region.virt_end % (4 * MIB) == 0
    spare = region.virt_end - plan.virt(plan.stack_pfn + 1)
    assert spare >= 512 * 1024
    assert region.nr_pages <= nr_pages


@given(kernel=kernels, initrd_bytes=st.sampled_from([0, 7 * MIB]))
def test_least_memory(kernel: Kernel, initrd_bytes: int) -> None:
    """The least that is named is enough."""
    with pytest.raises(ConfigError) as refused:
        plan_start_of_day(kernel, nr_pages=1, initrd_bytes=initrd_bytes)
    found = re.search(r"at least (\d+) MiB", str(refused.value))
    assert found is not None
    nr_pages = int(found[1]) * MIB // PAGE_BYTES
    plan = plan_start_of_day(
        kernel, nr_pages=nr_pages, initrd_bytes=initrd_bytes
    )
    assert nr_pages - plan.end_pfn < MIB // PAGE_BYTES + 2


def test_no_addresses_left() -> None:
    kernel = make_kernel(
        virt_base=HIGH,
        offset=0,
        size_bytes=(2 << 30) - (8 * MIB),
        init_p2m=None,
        mod_start_pfn=False,
    )
    with pytest.raises(ConfigError, match="too big for the addresses"):
        plan_start_of_day(kernel, nr_pages=1 << 20, initrd_bytes=16 * MIB)
