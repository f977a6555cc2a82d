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

_GET_STATS_FD = 0xAECE
_HEADER = struct.Struct("<6I")
_DESCRIPTOR = struct.Struct("<IhHII")


class Kind(IntEnum):
    """KVM_STATS_TYPE_*."""

    CUMULATIVE = 0
    INSTANT = 1
    PEAK = 2
    LINEAR_HISTOGRAM = 3
    LOG_HISTOGRAM = 4


class Unit(IntEnum):
    """KVM_STATS_UNIT_*, without its shift."""

    NONE = 0
    BYTES = 1
    SECONDS = 2
    CYCLES = 3
    BOOLEAN = 4


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
        return int(fcntl.ioctl(fd, _GET_STATS_FD, 0))
    except OSError:
        return None


def read_descriptors(stats_fd: int) -> tuple[Descriptor, ...]:
    """What there is; it does not change while the VM lives."""
    _flags, name_bytes, count, _id, at, _data = _header(stats_fd)
    size = _DESCRIPTOR.size + name_bytes
    table = os.pread(stats_fd, size * count, at)
    return tuple(_descriptors(table, size, count))


def _header(stats_fd: int) -> tuple[int, ...]:
    return _HEADER.unpack(os.pread(stats_fd, _HEADER.size, 0))


def _descriptors(table: bytes, size: int, count: int) -> Iterator[Descriptor]:
    for start in range(0, size * count, size):
        flags, exponent, length, offset, bucket = _DESCRIPTOR.unpack_from(
            table, start
        )
        name = table[start + _DESCRIPTOR.size : start + size]
        try:
            kind, unit = Kind(flags & 0xF), Unit(flags >> 4 & 0xF)
        except ValueError:
            continue  # Of a newer kernel: not known what it means.
        yield Descriptor(
            name=name.split(b"\0")[0].decode("ascii", "replace"),
            kind=kind,
            unit=unit,
            base=2 if flags >> 8 & 0xF else 10,
            exponent=exponent,
            bucket_size=bucket,
            offset=offset,
            length=length,
        )


def read_values(
    stats_fd: int, descriptors: tuple[Descriptor, ...]
) -> dict[str, tuple[int, ...]]:
    """The numbers of each statistic now, by name."""
    end = max((d.offset + d.length * 8 for d in descriptors), default=0)
    data = os.pread(stats_fd, end, _header(stats_fd)[5])
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
