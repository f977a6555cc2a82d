# SPDX-License-Identifier: GPL-2.0-or-later
"""abi/*.h, and what we use of Xen's and Linux' headers, for Python: constants,
and structures in place.

Every integer #define of abi/*.h and csrc/*.h is a name of this module
(`abi.EMU_SHARED_GPA`). `view()` gives a structure that lives in a buffer.
"""

from typing import Any

from xenner._abi import ffi as ffi
from xenner._constants import *  # noqa: F403


def view(struct: str, memory: Any, offset: int = 0) -> Any:
    """The C structure `struct NAME` at `offset` bytes of a writable buffer.

    Reads and writes go to the buffer. ValueError if it does not fit. The
    caller keeps the buffer alive as long as it uses the result.
    """
    ctype = f"struct {struct} *"
    if offset < 0 or offset + sizeof(struct) > len(memory):
        raise ValueError(f"struct {struct} at {offset:#x} is past the end")
    return ffi.cast(ctype, ffi.from_buffer(memory) + offset)


def sizeof(struct: str) -> int:
    """Bytes of `struct NAME`."""
    return int(ffi.sizeof(f"struct {struct}"))


def offsetof(struct: str, *path: str | int) -> int:
    """Bytes from the start of `struct NAME` to a field, or a field's field."""
    return int(ffi.offsetof(f"struct {struct}", *path))
