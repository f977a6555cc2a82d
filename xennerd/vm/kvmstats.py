# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's own binary statistics of a VM or vCPU (KVM_GET_STATS_FD).

Documentation/virt/kvm/api.rst 4.133 of Linux gives the layout.
"""

import fcntl
import os
import struct

_GET_STATS_FD = 0xAECE
_HEADER = struct.Struct("<6I")
_DESCRIPTOR = struct.Struct("<IhHII")
_TYPE_MASK = 0xF
_TYPE_INSTANT = 1


def open_stats(fd: int) -> int | None:
    """The statistics descriptor of a VM or vCPU; None on an old kernel."""
    try:
        return int(fcntl.ioctl(fd, _GET_STATS_FD, 0))
    except OSError:
        return None


def read_stats(stats_fd: int) -> dict[str, int]:
    """Counters by name; histograms are left out."""
    header = os.pread(stats_fd, _HEADER.size, 0)
    _flags, name_bytes, count, _id, descriptors, data = _HEADER.unpack(header)
    size = _DESCRIPTOR.size + name_bytes
    table = os.pread(stats_fd, size * count, descriptors)
    result = {}
    for i in range(count):
        flags, _exponent, length, offset, _bucket = _DESCRIPTOR.unpack_from(
            table, i * size
        )
        if flags & _TYPE_MASK > _TYPE_INSTANT or length != 1:
            continue
        name = table[i * size + _DESCRIPTOR.size : (i + 1) * size]
        (value,) = struct.unpack("<Q", os.pread(stats_fd, 8, data + offset))
        if value:
            result[name.rstrip(b"\0").decode("ascii", "replace")] = value
    return result
