# SPDX-License-Identifier: GPL-2.0-or-later
"""xentoolcore_restrict_all() of Debian's libxentoolcore on our handles."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.evtchnd.daemon import LIMIT_S, Daemon, library

_TOOLCORE = Path("/usr/lib/x86_64-linux-gnu/libxentoolcore.so.1")
# libxentoolcore first, as where a program's own libraries need it.
_PROGRAM = """\
import ctypes, errno, sys
core = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL, use_errno=True)
assert core.xentoolcore_restrict_all(7) == 0
name = sys.argv[2]
ours = ctypes.CDLL(f"libxen{name}.so.1")
start, end = (getattr(ours, f"xen{name}_{verb}") for verb in ("open", "close"))
start.restype = ctypes.c_void_p
handle = start(None, 0)
assert handle
assert core.xentoolcore_restrict_all(7) == -1
assert ctypes.get_errno() == errno.EOPNOTSUPP
assert end(ctypes.c_void_p(handle)) == 0
assert core.xentoolcore_restrict_all(7) == 0
"""


@pytest.mark.parametrize("name", ["call", "evtchn", "foreignmemory", "gnttab"])
def test_what_cannot_be_restricted_says_so(daemon: Daemon, name: str) -> None:
    library(f"xen{name}")
    if not _TOOLCORE.exists():
        pytest.skip("packages: libxentoolcore1 is not installed")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, _TOOLCORE, name],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
