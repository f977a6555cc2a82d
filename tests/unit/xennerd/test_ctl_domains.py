# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is asked when one domain is meant, and what dead ones look like."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xennerd.samples import RECORD
from xenner.paths import Paths
from xenner.types import Domid
from xenner.vmcorelocks import preserve
from xennerd.ctl.domains import (
    NoDomainError,
    find_domain,
    find_named,
    list_domains,
)
from xennerd.domain.records import write_record
from xennerd.vm.memory.layout import PAGE_BYTES, machine_layout


class Rig:
    """Two domains that live; one of them never answers."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.paths = Paths.of(
            {
                "XENNER_RUNTIME_DIR": str(directory),
                "XENSTORED_PATH": str(directory / "none"),
            }
        )
        for domid, name in ((7, "web"), (8, "other"), (9, "7")):
            record = replace(RECORD, domid=Domid(domid), name=name, plugged=())
            write_record(directory, record)
            file = stack.enter_context(
                (directory / f"vmcore.{domid}").open("wb")
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        self.other = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.other.bind(str(directory / "monitor.8"))
        self.other.listen()
        self.other.setblocking(False)

    def is_asked(self) -> bool:
        try:
            self.other.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


@pytest.mark.parametrize("word", ["web", "7"])
def test_only_the_one_that_is_meant_is_asked(rig: Rig, word: str) -> None:
    assert find_domain(rig.paths, word).domid == 7
    assert not rig.is_asked()


def test_nobody_is_asked_for_a_name_that_nobody_has(rig: Rig) -> None:
    with pytest.raises(NoDomainError):
        find_domain(rig.paths, "shop")
    assert find_named(rig.paths, "shop") is None
    # One that is called like another one's number.
    named = find_named(rig.paths, "7")
    assert named is not None
    assert named.domid == 9
    assert not rig.is_asked()


def test_a_dead_one_has_what_it_had(tmp_path: Path) -> None:
    """Its memory without what is not the guest's, and its processors."""
    layout = machine_layout((64 << 20) // PAGE_BYTES)
    vmcore = tmp_path / "vmcore.7"
    size_bytes = sum(length for _gpa, length in layout.ram_ranges())
    with vmcore.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    preserve(vmcore)
    write_record(tmp_path, replace(RECORD, end="crash"))
    environment = {"XENNER_RUNTIME_DIR": str(tmp_path), "XENSTORED_PATH": "/x"}
    (dead,) = list_domains(Paths.of(environment))
    assert (dead.memory_mib, len(dead.vcpus)) == (64, 2)
    assert dead.state == "---sc-"
    # What it had given back is not there.
    vmcore.chmod(0o600)
    os.truncate(vmcore, size_bytes - (16 << 20))
    preserve(vmcore)
    (dead,) = list_domains(Paths.of(environment))
    assert dead.memory_mib == 48
