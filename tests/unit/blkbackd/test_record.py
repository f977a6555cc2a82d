# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of what is in flight, and a host that has no room for it."""

import errno
import os
from pathlib import Path

import pytest

from blkbackd.record import open_record
from xenner.errors import HostError

_BYTES = 8192


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def _open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_no_room_costs_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again each second, for as long as there is none."""

    def refuse(_fd: int, _at: int, _size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = _open_fds()
    with pytest.raises(HostError, match="No space left"):
        open_record("7-51712", "ring", _BYTES, is_kept=True)
    assert _open_fds() == before


def test_kept_or_made_anew(runtime: Path) -> None:
    file = runtime / "blkbackd.7-51712"
    for is_kept, expected in ((False, b""), (True, b"taken"), (False, b"")):
        record = open_record("7-51712", "ring", _BYTES, is_kept=is_kept)
        assert file.read_bytes() == expected.ljust(_BYTES, b"\0")
        os.pwrite(record.fd, b"taken", 0)
        record.keep()
    record.path.unlink()
    other = open_record("7-51712", "another", _BYTES, is_kept=True)
    assert other.key not in (0, record.key)
    other.close()
    assert not file.exists()
