# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs of busybox, one init and whatever else is wanted.

Written here and not by cpio(1): device nodes need no root that way, and the
same files make the same bytes.

    python -m demo.initramfs INIT OUTPUT [PROGRAM...]

makes one with INIT as /init and each PROGRAM in /bin.
"""

import gzip
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

BUSYBOX = Path("/bin/busybox")

_DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "sys", "tmp")
# Name to major and minor number (Linux, admin-guide/devices.rst).
_DEVICES = {"dev/console": (5, 1), "dev/null": (1, 3)}


def make_initramfs(init: bytes, extra: Mapping[str, bytes]) -> bytes:
    """A gzip-compressed newc archive: busybox, `init` as /init, `extra`.

    `extra` maps paths without a leading slash to the contents of executable
    files. OSError if there is no busybox.
    """
    files = {"bin/busybox": BUSYBOX.read_bytes(), "init": init, **extra}
    archive = b"".join(_entries(files))
    # Not the kernel but cpio(1) reads whole blocks.
    archive += bytes(-len(archive) % 512)
    return gzip.compress(archive, compresslevel=6, mtime=0)


def _entries(files: Mapping[str, bytes]) -> Iterator[bytes]:
    number = 1
    for name in _directories(files):
        yield _entry(number, name, mode=stat.S_IFDIR | 0o755)
        number += 1
    for name, device in _DEVICES.items():
        yield _entry(number, name, mode=stat.S_IFCHR | 0o600, device=device)
        number += 1
    yield _entry(
        number, "bin/sh", mode=stat.S_IFLNK | 0o777, contents=b"busybox"
    )
    number += 1
    for name, contents in files.items():
        yield _entry(number, name, mode=stat.S_IFREG | 0o755, contents=contents)
        number += 1
    yield _entry(0, "TRAILER!!!", mode=0)


def _directories(files: Iterable[str]) -> Iterator[str]:
    """Those that are always there, and what `files` need; parents first."""
    yield from _DIRECTORIES
    needed = {
        str(parent)
        for name in files
        for parent in PurePosixPath(name).parents
        if parent.name
    }
    yield from sorted(needed - {*_DIRECTORIES})


def _entry(
    number: int,
    name: str,
    *,
    mode: int,
    contents: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """One member: 13 fields of 8 hex digits, name, contents (cpio(5))."""
    encoded = name.encode() + b"\0"
    fields = (
        number,
        mode,
        0,  # owner
        0,  # group
        1,  # links
        0,  # time
        len(contents),
        0,  # device it lies on
        0,
        *device,
        len(encoded),
        0,  # checksum, not used in this format
    )
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(contents)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def main() -> None:
    init, output, *programs = map(Path, sys.argv[1:])
    extra = {f"bin/{path.name}": path.read_bytes() for path in programs}
    output.write_bytes(make_initramfs(init.read_bytes(), extra))


if __name__ == "__main__":
    main()
