# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest gives back what a daemon has mapped, and the host has no memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "full_tmpfs.py"
TOP = PROGRAM.parents[3]


def test_a_touch_of_a_mapped_page_finds_memory(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: mounts a tmpfs")
    script = 'mount -t tmpfs -o size=16m xenner "$1" && exec "$2" "$3" "$1"'
    words = ["sh", str(tmp_path), sys.executable, str(PROGRAM)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )
    assert done.returncode != -signal.SIGBUS, "a touch found no memory"
    assert done.stdout == "PASS\n", done.stderr
