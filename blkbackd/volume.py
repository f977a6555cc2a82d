# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands behind a disk: a block device or a raw file, opened and asked
what it can do. Blocks: opening and the questions go to the disk."""

import array
import errno
import fcntl
import mmap
import os
import pwd
import stat
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from blkbackd.image_lock import lock_image
from blkbackd.sysfs import DEVICES, read_facts, sector_bytes
from xenner import abi
from xenner.errors import HostError

SECTOR_BYTES = 512
_BUFFER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Volume:
    """An open one. `fd` is the caller's to close.

    `block_bytes` is the smallest read or write, `memory_align` what O_DIRECT
    wants of buffers. `buffered_reason` says why it is not O_DIRECT, empty if
    it is. `discard_bytes` is the granularity of a discard, 0: none; the first
    grain begins at `discard_offset_bytes`.
    """

    path: Path
    fd: int
    nr_sectors: int
    block_bytes: int
    physical_block_bytes: int
    memory_align: int
    is_device: bool
    is_read_only: bool
    discard_bytes: int
    discard_offset_bytes: int = 0
    can_erase_securely: bool = False
    is_removable: bool = False
    buffered_reason: str = ""
    device: str = ""
    """MM:mm in hexadecimal, of a block device."""

    def close(self) -> None:
        os.close(self.fd)

    def nr_sectors_now(self) -> int:
        """OSError: it has gone."""
        return _size_bytes(self.fd, self.is_device) // SECTOR_BYTES

    def cut(self) -> str:
        """What there is after the last whole sector, which no guest sees, in
        words; empty: nothing. OSError."""
        size_bytes = _size_bytes(self.fd, self.is_device)
        seen_bytes = size_bytes - size_bytes % self.block_bytes
        if seen_bytes == size_bytes:
            return ""
        return (
            f"{self.path} has {size_bytes} bytes, of which the guest sees "
            f"{seen_bytes}: whole sectors of {self.block_bytes}"
        )

    def as_it_is(self) -> "Volume":
        """The same, with its size of now. OSError."""
        return replace(self, nr_sectors=self.nr_sectors_now())


def open_volume(
    path: Path,
    *,
    is_read_only: bool,
    is_shared: bool = False,
    may_discard: bool = True,
) -> Volume:
    """Open for one disk: writers alone, readers together. `is_shared`: with
    anybody, for those who know what they do.

    HostError: it is not there, not ours to open, in use, or neither a block
    device nor a file.
    """
    with ExitStack() as on_fail:
        try:
            fd, reason = _open(path, is_read_only, is_shared)
            on_fail.callback(os.close, fd)
            status = os.fstat(fd)
            if not is_shared:
                is_device = stat.S_ISBLK(status.st_mode)
                lock_image(fd, is_read_only=is_read_only, is_device=is_device)
            if stat.S_ISBLK(status.st_mode):
                volume = _device(path, fd, status, reason, is_read_only)
            elif stat.S_ISREG(status.st_mode):
                volume = _file(path, fd, status, reason, is_read_only)
            else:
                raise _neither(path)
        except BlockingIOError as error:
            raise HostError(
                f"{path} is in use",
                "another domain's disk, a mount, or QEMU's?",
            ) from error
        except OSError as error:
            hint = _hint(is_read_only) if error.errno == errno.EACCES else ""
            raise HostError(f"{path}: {error.strerror}", hint) from error
        on_fail.pop_all()
    if not may_discard or is_read_only:
        return replace(volume, discard_bytes=0, can_erase_securely=False)
    return volume


def _neither(path: Path) -> HostError:
    return HostError(f"{path} is neither a block device nor a regular file")


def _hint(is_read_only: bool) -> str:
    """What an operator can do about a file that we may not open."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    mode = "read" if is_read_only else "read and write"
    return f"the user {user} must be able to {mode} it and to reach it"


def _open(path: Path, is_read_only: bool, is_shared: bool) -> tuple[int, str]:
    """Descriptor, and why it is not O_DIRECT."""
    flags = os.O_CLOEXEC | (os.O_RDONLY if is_read_only else os.O_RDWR)
    kind = os.stat(path).st_mode
    if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
        # To open a FIFO may wait for ever, and a watchdog's device begins.
        raise _neither(path)
    try:
        if stat.S_ISBLK(kind) and not (is_read_only or is_shared):
            # The kernel's own lock, as a mount takes (open(2), O_EXCL).
            flags |= os.O_EXCL
        return os.open(path, flags | os.O_DIRECT), ""
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise BlockingIOError from error
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags), "the file system refuses O_DIRECT"


def _ask(fd: int, request: int, kind: str) -> int:
    answer = array.array(kind, [0])
    fcntl.ioctl(fd, request, answer)
    return answer[0]


def _size_bytes(fd: int, is_device: bool) -> int:
    return (
        _ask(fd, abi.BLKGETSIZE64, "Q") if is_device else os.fstat(fd).st_size
    )


def _can_erase_securely(fd: int) -> bool:
    """Has the device secure discard? Linux has no node for that, but says so
    (block/ioctl.c) before it refuses a range that is not aligned."""
    try:
        fcntl.ioctl(fd, abi.BLKSECDISCARD, array.array("Q", [1, 1]))
    except OSError as error:
        return error.errno == errno.EINVAL
    return False


def _device(
    path: Path, fd: int, status: os.stat_result, reason: str, is_read_only: bool
) -> Volume:
    block = _ask(fd, abi.BLKSSZGET, "i")
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    facts = read_facts(_sysfs_of(status.st_rdev))
    return Volume(
        path=path,
        fd=fd,
        nr_sectors=_size_bytes(fd, True) // SECTOR_BYTES,
        block_bytes=block,
        physical_block_bytes=max(block, _ask(fd, abi.BLKPBSZGET, "I")),
        memory_align=1 if reason else block,
        is_device=True,
        is_read_only=is_read_only,
        discard_bytes=facts.discard_bytes,
        discard_offset_bytes=facts.discard_offset_bytes,
        can_erase_securely=facts.discard_bytes > 0 and _can_erase_securely(fd),
        is_removable=facts.is_removable,
        buffered_reason=reason,
        device=f"{major:x}:{minor:x}",
    )


def _sysfs_of(number: int) -> Path:
    return DEVICES / f"{os.major(number)}:{os.minor(number)}"


def _file(
    path: Path, fd: int, status: os.stat_result, reason: str, is_read_only: bool
) -> Volume:
    if not reason and not _takes_sectors(fd, status):
        # A guest's partition table counts in sectors of 512 bytes.
        reason = "O_DIRECT there wants more than 512 bytes"
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return Volume(
        path=path,
        fd=fd,
        nr_sectors=status.st_size // SECTOR_BYTES,
        block_bytes=SECTOR_BYTES,
        physical_block_bytes=SECTOR_BYTES,
        memory_align=1 if reason else SECTOR_BYTES,
        is_device=False,
        is_read_only=is_read_only,
        discard_bytes=status.st_blksize,
        buffered_reason=reason,
    )


def _takes_sectors(fd: int, status: os.stat_result) -> bool:
    """Can one sector be read to an address that is a multiple of 512?"""
    # A hole can: it does not ask the disk, as what is written there will.
    if sector_bytes(_sysfs_of(status.st_dev)) > SECTOR_BYTES:
        return False
    with mmap.mmap(-1, _BUFFER_BYTES) as buffer:
        sector = memoryview(buffer)[SECTOR_BYTES : 2 * SECTOR_BYTES]
        try:
            os.preadv(fd, [sector], 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        finally:
            sector.release()
    return True
