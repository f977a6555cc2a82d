# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the lab machine has: LVM, SVM, all of cgroup v2."""

import mmap
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.commands import output_of, run

pytestmark = pytest.mark.environments("machine")

_GROUP = "lab"
_BLOCK_BYTES = 4096


@pytest.fixture
def volume() -> Iterator[Path]:
    """A logical volume of 8 MiB, and none of it afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    output_of(
        *("lvcreate", "--yes", "--quiet", "--wipesignatures", "n"),
        *("--size", "8M", "--name", name, _GROUP),
    )
    path = Path("/dev") / _GROUP / name
    yield path
    output_of("lvremove", "--yes", "--quiet", f"{_GROUP}/{name}")
    assert run("lvs", f"{_GROUP}/{name}").returncode != 0
    assert not path.exists()


def test_the_volume_group() -> None:
    names = output_of("vgs", "--noheadings", "-o", "vg_name").split()
    assert names == [_GROUP]


def test_a_volume_keeps_what_is_written_past_the_cache(volume: Path) -> None:
    # O_DIRECT wants whole aligned blocks, which anonymous mappings are.
    written, read = mmap.mmap(-1, _BLOCK_BYTES), mmap.mmap(-1, _BLOCK_BYTES)
    written[:] = os.urandom(_BLOCK_BYTES)
    offset = 5 * _BLOCK_BYTES
    fd = os.open(volume, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    try:
        assert os.pwritev(fd, [written], offset) == _BLOCK_BYTES
        assert os.preadv(fd, [read], offset) == _BLOCK_BYTES
    finally:
        os.close(fd)
    assert read[:] == written[:]


def test_svm_is_there_and_in_use() -> None:
    flags = next(
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("flags")
    )
    assert "svm" in flags.split()
    modules = Path("/proc/modules").read_text().splitlines()
    assert "kvm_amd" in {line.split()[0] for line in modules}


def test_cgroup_controllers() -> None:
    names = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert {"cpu", "io", "memory", "pids"} <= set(names)
