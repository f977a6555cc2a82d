# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's QEMU, Debian's build of it, installed or only unpacked."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.evtchnd import TOP

_UNPACKED = TOP / "build/xen-utils/usr"
_PROGRAMS = (
    Path("/usr/libexec/xen-qemu-system-i386"),
    _UNPACKED / "libexec/xen-qemu-system-i386",
)


def find_qemu() -> Path | None:
    """The program; None if there is none."""
    return next((path for path in _PROGRAMS if path.exists()), None)


def qemu_environment(base: Mapping[str, str]) -> dict[str, str]:
    """With which blkbackd finds it, and it what it links with."""
    libraries = f"{_UNPACKED / 'lib/x86_64-linux-gnu'}"
    return {
        "XENNER_QDISK": str(find_qemu() or ""),
        **base,
        "LD_LIBRARY_PATH": f"{base['LD_LIBRARY_PATH']}:{libraries}",
    }


def end_qemus(runtime_dir: Path) -> None:
    """Those that blkbackd has left there."""
    for file in runtime_dir.glob("qdisk.*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
