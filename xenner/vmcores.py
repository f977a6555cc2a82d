# SPDX-License-Identifier: GPL-2.0-or-later
"""The vmcores of a runtime directory, as others than their owners see them."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenner import abi
from xenner.errors import HostError
from xenner.types import Domid
from xenner.vmcorelocks import is_locked

_NAME = re.compile(r"vmcore\.(0|[1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class VmcoreView:
    """A vmcore, mapped to be read; guest memory that may say anything.

    `resident_bytes` is what of the file is not a hole. `is_live`: its owner
    runs.
    """

    path: Path
    domid: Domid
    mem: Any
    nr_vcpus: int
    guest_bytes: int
    resident_bytes: int
    is_live: bool
    has_slow_ring0: bool


def list_domids(runtime_dir: Path) -> list[Domid]:
    """The domains that have a vmcore there, living or dead, in order."""
    try:
        names = os.listdir(runtime_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(
            f"cannot look into {runtime_dir}: {error.strerror}"
        ) from error
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(Domid(int(match[1])) for match in found if match)


@contextmanager
def open_view(path: Path) -> Iterator[VmcoreView]:
    """Look into a vmcore, or into a copy of one.

    Raises HostError: it is not there, not ours to read, or no vmcore of this
    version.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        hint = ""
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "run as root or as the domain's own user"
        raise HostError(f"{path}: {error.strerror}", hint) from error
    try:
        status = os.fstat(fd)
        needed = abi.EMU_SHARED_GPA + abi.sizeof("emu_shared")
        if status.st_size < needed:
            raise HostError(f"{path}: too short for a vmcore")
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mem:
            yield _view(path, fd, mem, status)
    finally:
        os.close(fd)


def _view(
    path: Path, fd: int, mem: mmap.mmap, status: os.stat_result
) -> VmcoreView:
    raw = mem[
        abi.EMU_SHARED_GPA : abi.EMU_SHARED_GPA + abi.sizeof("emu_shared")
    ]
    shared = abi.view("emu_shared", raw)
    if shared.magic != abi.EMU_ABI_MAGIC:
        raise HostError(f"{path}: no vmcore, or one without a guest yet")
    if shared.version != abi.EMU_ABI_VERSION:
        raise HostError(
            f"{path}: of another version of xenner ({shared.version}, "
            f"here {abi.EMU_ABI_VERSION})"
        )
    nr_vcpus = int(shared.nr_vcpus)
    end = abi.EMU_VCPU_GPA + nr_vcpus * abi.EMU_VCPU_BYTES
    if not 1 <= nr_vcpus <= abi.EMU_MAX_VCPUS or end > status.st_size:
        raise HostError(f"{path}: corrupt: {nr_vcpus} vCPUs")
    return VmcoreView(
        path=path,
        domid=Domid(shared.domid),
        mem=mem,
        nr_vcpus=nr_vcpus,
        guest_bytes=int(shared.guest_nr_pages) * 4096,
        resident_bytes=status.st_blocks * 512,
        is_live=is_locked(fd),
        has_slow_ring0=bool(shared.quirks & abi.EMU_QUIRK_SLOW_RING0),
    )
