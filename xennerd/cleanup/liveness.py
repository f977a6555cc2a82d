# SPDX-License-Identifier: GPL-2.0-or-later
"""Find live domains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.evtchn import Evtchnd
from xenner.paths import vmcore_path
from xenner.types import Domid
from xenner.vmcorelocks import owned_identity
from xenner.vmcores import list_domids

_KVM_LINK = "anon_inode:kvm-vm"
# What a guest's process is called: as installed, and as a module.
_PROGRAMS = frozenset(
    {b"xenner", b"xennerd.standalone", b"xenner-start", b"xennerd.domain.start"}
)


@dataclass(frozen=True, slots=True)
class LiveDomains:
    """Domains that run: those whose vmcore here has an owner, and those that
    evtchnd knows. `doubt`, if not empty, says why there may be others."""

    locked: frozenset[Domid]
    registered: frozenset[Domid]
    doubt: str = ""

    @property
    def domids(self) -> frozenset[Domid]:
        """All of them."""
        return self.locked | self.registered


def find_live_domains(runtime_dir: Path, evtchnd: Path) -> LiveDomains:
    """Find domains by their locks in the runtime directory, and by evtchnd.

    evtchnd also knows domains with a vmcore elsewhere; if it does not answer,
    a VM process with a vmcore elsewhere is a reason for doubt.
    """
    locked: dict[Domid, tuple[int, int]] = {}
    for domid in list_domids(runtime_dir):
        with suppress(FileNotFoundError):
            if identity := owned_identity(vmcore_path(runtime_dir, domid)):
                locked[domid] = identity
    known = frozenset(locked)
    try:
        with Evtchnd(evtchnd) as connection:
            return LiveDomains(known, frozenset(connection.domids()))
    except (OSError, HostError):
        unknown = _unknown_vm_processes(frozenset(locked.values()))
    doubt = ""
    if unknown:
        doubt = (
            f"evtchnd does not answer, and process {unknown[0]} may be that "
            "domain"
        )
    return LiveDomains(known, frozenset(), doubt)


def _unknown_vm_processes(known: frozenset[tuple[int, int]]) -> list[int]:
    """VM processes that hold none of the `known` vmcores."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _is_vm_process(process):
            held = set(_held_files(process))
            if held and not held & known:
                found.append(int(process.name))
    return sorted(found)


def _is_vm_process(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    names = {os.path.basename(word) for word in words[:4]}
    return bool(names & _PROGRAMS)


def _held_files(process: Path) -> Iterator[tuple[int, int]]:
    """Device and inode of its open files, if it has a virtual machine open."""
    fds = process / "fd"
    try:
        links = [fds / name for name in os.listdir(fds)]
    except OSError:
        return
    if any(_link(link).startswith(_KVM_LINK) for link in links):
        for link in links:
            with suppress(OSError):
                status = link.stat()
                yield status.st_dev, status.st_ino


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
