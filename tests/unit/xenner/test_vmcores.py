# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking into vmcores that live, are dead, or are none."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenner import abi
from xenner.errors import HostError
from xenner.types import Domid
from xenner.vmcores import list_domids, open_view
from xennerd.stats.reading import find_states
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import Vmcore, open_vmcore

LAYOUT = machine_layout(256)


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def vmcore(runtime_dir: Path) -> Iterator[Vmcore]:
    """A living one of domain 7 with two vCPUs, as its start of day has it."""
    with open_vmcore(
        Domid(7), layout=LAYOUT, nr_vcpus=2, runtime_dir=runtime_dir
    ) as vmcore:
        shared = abi.view("emu_shared", vmcore.mem, abi.EMU_SHARED_GPA)
        shared.magic = abi.EMU_ABI_MAGIC
        shared.version = abi.EMU_ABI_VERSION
        shared.domid, shared.nr_vcpus = 7, 2
        shared.guest_nr_pages = 256
        del shared
        yield vmcore


def test_a_living_one(vmcore: Vmcore) -> None:
    with open_view(vmcore.path) as view:
        assert (view.domid, view.nr_vcpus, view.is_live) == (7, 2, True)
        assert view.guest_bytes == 1 << 20


def test_a_dead_one(vmcore: Vmcore, runtime_dir: Path) -> None:
    copy = runtime_dir / "vmcore.9"
    copy.write_bytes(vmcore.path.read_bytes())
    with open_view(copy) as view:
        assert not view.is_live


def test_where_the_vcpus_are(vmcore: Vmcore) -> None:
    for number, state in (
        (0, abi.EMU_VCPU_UP | abi.EMU_VCPU_IN_GUEST),
        (1, abi.EMU_VCPU_UP | abi.EMU_VCPU_BLOCKED),
    ):
        at = abi.EMU_VCPU_GPA + number * abi.EMU_VCPU_BYTES
        abi.view("emu_vcpu", vmcore.mem, at).state = state
    with open_view(vmcore.path) as view:
        (found,) = find_states([view], 0.01)
    assert found[0]["guest"] > 0
    assert found[0]["guest"] == sum(found[0].values())
    assert found[1]["blocked"] == sum(found[1].values())


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("magic", 1, "no vmcore"),
        ("version", 99, "another version"),
        ("nr_vcpus", 0, "corrupt"),
        ("nr_vcpus", 1 << 30, "corrupt"),
    ],
)
def test_guest_memory_may_say_anything(
    field: str, value: int, says: str, vmcore: Vmcore
) -> None:
    shared = abi.view("emu_shared", vmcore.mem, abi.EMU_SHARED_GPA)
    setattr(shared, field, value)
    with pytest.raises(HostError, match=says), open_view(vmcore.path):
        pass


def test_what_is_no_vmcore(runtime_dir: Path) -> None:
    short = runtime_dir / "vmcore.1"
    short.write_bytes(b"x")
    link = runtime_dir / "vmcore.2"
    link.symlink_to(short)
    for path, says in (
        (short, "too short"),
        (link, "symbolic links"),
        (runtime_dir / "vmcore.3", "No such file"),
    ):
        with pytest.raises(HostError, match=says), open_view(path):
            pass


def test_names(runtime_dir: Path) -> None:
    for name in ("vmcore.12", "vmcore.3", "vmcore.03", "vmcore.x", "monitor.4"):
        (runtime_dir / name).touch()
    assert list_domids(runtime_dir) == [3, 12]
    assert list_domids(runtime_dir / "none") == []
