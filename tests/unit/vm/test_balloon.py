# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages go to the host and come back; others' pages do not."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner import abi
from xenner.abi import ffi
from xenner.types import Domid, Mfn
from xennerd.vm.memory.balloon import Balloon, guest_mfns, runs
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import Vmcore, open_vmcore

LAYOUT = machine_layout(256)
FIRST = LAYOUT.guest_mfn
GIVE, TAKE = abi.EMU_BALLOON_GIVE, abi.EMU_BALLOON_TAKE
PAGE = 4096


@pytest.fixture
def vmcore() -> Iterator[Vmcore]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        open_vmcore(
            Domid(1), layout=LAYOUT, nr_vcpus=1, runtime_dir=Path(name)
        ) as vmcore,
    ):
        yield vmcore


def request(what: int, mfns: list[int], length: int | None = None) -> Any:
    made = ffi.new("struct emu_request *")
    data = b"".join(mfn.to_bytes(8, "little") for mfn in mfns)
    made.arg[0] = what
    made.length = len(data) if length is None else length
    made.result = 77
    ffi.memmove(made.data, data, len(data))
    return made


def test_what_is_there_is_counted(vmcore: Vmcore) -> None:
    balloon = Balloon(vmcore)
    assert balloon.actual_bytes() == 256 * PAGE
    balloon.perform(request(GIVE, [FIRST + 3, FIRST + 4]))
    assert balloon.actual_bytes() == 254 * PAGE
    # Given twice is still gone once.
    balloon.perform(request(GIVE, [FIRST + 3]))
    assert balloon.actual_bytes() == 254 * PAGE
    balloon.perform(request(TAKE, [FIRST + 3]))
    assert balloon.actual_bytes() == 255 * PAGE


def used_pages(vmcore: Vmcore) -> int:
    return os.fstat(vmcore.fd).st_blocks * 512 // PAGE


def test_pages_go_and_come_back_as_zeros(vmcore: Vmcore) -> None:
    mfns = [FIRST + n for n in (3, 4, 5, 200)]
    for mfn in mfns:
        vmcore.mem[mfn * PAGE] = 0x5A
    vmcore.mem[(FIRST + 6) * PAGE] = 0x5A
    before = used_pages(vmcore)

    made = request(GIVE, mfns)
    Balloon(vmcore).perform(made)
    assert made.result == 0
    assert used_pages(vmcore) == before - 4
    # The neighbour stays, and a backend that reads them gets zeros.
    assert vmcore.mem[(FIRST + 6) * PAGE] == 0x5A
    for mfn in mfns:
        assert os.pread(vmcore.fd, PAGE, mfn * PAGE) == bytes(PAGE)
    assert used_pages(vmcore) == before - 4

    made = request(TAKE, mfns)
    Balloon(vmcore).perform(made)
    assert made.result == 0
    assert used_pages(vmcore) == before
    for mfn in mfns:
        assert vmcore.mem[mfn * PAGE : (mfn + 1) * PAGE] == bytes(PAGE)


@pytest.mark.parametrize(
    "bad", [0, FIRST - 1, LAYOUT.machine_nr_pages, 1 << 52, (1 << 64) - 1]
)
@pytest.mark.parametrize("what", [GIVE, TAKE])
def test_one_page_of_others_and_nothing_is_done(
    vmcore: Vmcore, what: int, bad: int
) -> None:
    before = used_pages(vmcore)
    made = request(what, [FIRST, bad, FIRST + 1])
    Balloon(vmcore).perform(made)
    assert made.result == -errno.EINVAL
    assert used_pages(vmcore) == before


@pytest.mark.parametrize(
    ("what", "length"),
    [
        (2, 8),
        (GIVE, 7),
        (GIVE, abi.EMU_REQUEST_DATA_BYTES + 8),
        (GIVE, 1 << 31),
    ],
)
def test_odd_requests_are_refused(
    vmcore: Vmcore, what: int, length: int
) -> None:
    before = used_pages(vmcore)
    made = request(what, [FIRST], length)
    Balloon(vmcore).perform(made)
    assert made.result == -errno.EINVAL
    assert used_pages(vmcore) == before


def test_an_empty_request_is_none(vmcore: Vmcore) -> None:
    made = request(GIVE, [])
    Balloon(vmcore).perform(made)
    assert made.result == 0


def test_a_host_without_memory_says_so(
    vmcore: Vmcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    made = request(TAKE, [FIRST])
    Balloon(vmcore).perform(made)
    assert made.result == -errno.ENOMEM


def test_nobody_owns_the_machine_hole() -> None:
    large = machine_layout((5 << 30) // PAGE)
    hole = abi.MACHINE_HOLE_GPA // PAGE
    end = abi.MACHINE_HOLE_END_GPA // PAGE
    for mfn, is_ours in (
        (hole - 1, True),
        (hole, False),
        (end - 1, False),
        (end, True),
    ):
        data = mfn.to_bytes(8, "little")
        if is_ours:
            assert guest_mfns(data, large) == [mfn]
        else:
            with pytest.raises(ValueError, match="not the guest's"):
                guest_mfns(data, large)


@given(st.lists(st.integers(0, 40).map(Mfn), max_size=64))
def test_runs_are_the_pages_each_once(mfns: list[Mfn]) -> None:
    found = [first + n for first, count in runs(mfns) for n in range(count)]
    assert found == sorted(set(mfns))
    starts = [first for first, _ in runs(mfns)]
    assert not {first - 1 for first in starts} & set(mfns)
