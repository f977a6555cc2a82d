# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's own binary statistics of a VM or vCPU (KVM_GET_STATS_FD).

Documentation/virt/kvm/api.rst 4.133 of Linux gives the layout.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from xennerd.vm.kvm._vcpu import ffi, lib


class Kind(IntEnum):
    """KVM_STATS_TYPE_*."""

    CUMULATIVE = lib.KVM_STATS_TYPE_CUMULATIVE
    INSTANT = lib.KVM_STATS_TYPE_INSTANT
    PEAK = lib.KVM_STATS_TYPE_PEAK
    LINEAR_HISTOGRAM = lib.KVM_STATS_TYPE_LINEAR_HIST
    LOG_HISTOGRAM = lib.KVM_STATS_TYPE_LOG_HIST


class Unit(IntEnum):
    """KVM_STATS_UNIT_*."""

    NONE = lib.KVM_STATS_UNIT_NONE
    BYTES = lib.KVM_STATS_UNIT_BYTES
    SECONDS = lib.KVM_STATS_UNIT_SECONDS
    CYCLES = lib.KVM_STATS_UNIT_CYCLES
    BOOLEAN = lib.KVM_STATS_UNIT_BOOLEAN


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One statistic: `length` numbers of 64 bits at `offset` of the data.

    A number counts base ** exponent of its unit; `bucket_size` is a linear
    histogram's."""

    name: str
    kind: Kind
    unit: Unit
    base: int
    exponent: int
    bucket_size: int
    offset: int
    length: int


def open_stats(fd: int) -> int | None:
    """The statistics descriptor of a VM or vCPU; None on an old kernel."""
    try:
        return int(fcntl.ioctl(fd, lib.KVM_GET_STATS_FD, 0))
    except OSError:
        return None


def read_descriptors(stats_fd: int) -> tuple[Descriptor, ...]:
    """What there is; it does not change while the VM lives."""
    header = _header(stats_fd)
    size = ffi.sizeof("struct kvm_stats_desc") + header.name_size
    table = os.pread(stats_fd, size * header.num_desc, header.desc_offset)
    return tuple(_descriptors(table, size, header.name_size))


def _header(stats_fd: int) -> Any:
    size = ffi.sizeof("struct kvm_stats_header")
    return ffi.from_buffer(
        "struct kvm_stats_header *", os.pread(stats_fd, size, 0)
    )


def _descriptors(
    table: bytes, size: int, name_bytes: int
) -> Iterator[Descriptor]:
    for start in range(0, len(table), size):
        row = ffi.from_buffer(
            "struct kvm_stats_desc *", table[start : start + size]
        )
        try:
            kind = Kind(row.flags & lib.KVM_STATS_TYPE_MASK)
            unit = Unit(row.flags & lib.KVM_STATS_UNIT_MASK)
        except ValueError:
            continue  # Of a newer kernel: not known what it means.
        base = row.flags & lib.KVM_STATS_BASE_MASK
        yield Descriptor(
            name=ffi.string(row.name, name_bytes).decode("ascii", "replace"),
            kind=kind,
            unit=unit,
            base=2 if base == lib.KVM_STATS_BASE_POW2 else 10,
            exponent=row.exponent,
            bucket_size=row.bucket_size,
            offset=row.offset,
            length=row.size,
        )


def read_values(
    stats_fd: int, descriptors: tuple[Descriptor, ...]
) -> dict[str, tuple[int, ...]]:
    """The numbers of each statistic now, by name."""
    end = max((d.offset + d.length * 8 for d in descriptors), default=0)
    data = os.pread(stats_fd, end, _header(stats_fd).data_offset)
    return {
        d.name: struct.unpack_from(f"<{d.length}Q", data, d.offset)
        for d in descriptors
        if d.offset + d.length * 8 <= len(data)
    }


def read_stats(stats_fd: int) -> dict[str, int]:
    """Counters that are not 0, by name; peaks and histograms are left out."""
    descriptors = tuple(
        d
        for d in read_descriptors(stats_fd)
        if d.kind <= Kind.INSTANT and d.length == 1
    )
    values = read_values(stats_fd, descriptors)
    return {name: value for name, (value,) in values.items() if value}
