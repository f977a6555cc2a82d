# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's structures as guests of either width have them.

Sizes and offsets are those of Xen's own headers, which have both widths
(xen/foreign/x86_32.h and x86_64.h); csrc/xen.h names what is used of them.
"""

from typing import Any

from xenner import abi
from xenner.abi import ffi


class Layout:
    """The structures of guests of one width, by their names in xen.h.

    `magic` is start_info's, the type of guest as libxenguest writes it.
    """

    # No dataclass: making one takes a millisecond of each guest's start.
    __slots__ = ("kernel_cs", "kernel_ss", "magic", "width", "word_bytes")

    def __init__(
        self,
        width: str,
        *,
        word_bytes: int,
        magic: bytes,
        kernel_cs: int,
        kernel_ss: int,
    ) -> None:
        """`width` as it stands in Xen's name of each structure, a word is a
        page number or one of pending bits."""
        self.width = width
        self.word_bytes = word_bytes
        self.magic = magic
        self.kernel_cs = kernel_cs
        self.kernel_ss = kernel_ss

    def new(self, struct: str) -> Any:
        """One of them, all zeros."""
        return ffi.new(f"struct {struct}_{self.width} *")

    def view(self, struct: str, memory: Any, offset: int = 0) -> Any:
        """The one that is in a writable buffer: see abi.view()."""
        return abi.view(f"{struct}_{self.width}", memory, offset)

    def sizeof(self, struct: str) -> int:
        """Bytes of one of them."""
        return abi.sizeof(f"{struct}_{self.width}")

    def offsetof(self, struct: str, *path: str | int) -> int:
        """Bytes from its start to a field, or to a field of a field."""
        return abi.offsetof(f"{struct}_{self.width}", *path)

    def set_wall_clock(self, shared_info: Any, sec: int, nsec: int) -> None:
        """Seconds since 1970 at system time 0, under an even version."""
        shared_info.wc_version += 2
        shared_info.wc_sec, shared_info.wc_nsec = sec & 0xFFFFFFFF, nsec
        # 32-bit guests have no room for it where the others do.
        above = shared_info.arch if self is X86_32 else shared_info
        above.wc_sec_hi = sec >> 32


X86_32 = Layout(
    "x86_32",
    word_bytes=4,
    magic=b"xen-3.0-x86_32p",
    kernel_cs=abi.FLAT_KERNEL_CS_X86_32,
    kernel_ss=abi.FLAT_KERNEL_SS_X86_32,
)
"""Guests of PAE: a page-table entry has two words."""

X86_64 = Layout(
    "x86_64",
    word_bytes=8,
    magic=b"xen-3.0-x86_64",
    kernel_cs=abi.FLAT_KERNEL_CS_X86_64,
    kernel_ss=abi.FLAT_KERNEL_SS_X86_64,
)
