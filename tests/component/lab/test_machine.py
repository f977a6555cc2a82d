# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab machine, started as `make lab-run` starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True, scope="module")
def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("root: the lab's root directory is made by root only")


def run(
    out: Path, command: str, *, limit_s: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "lab", "run", "--out", str(out)),
            *("--limit-s", str(limit_s), "--", command),
        ],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_is_what_it_says_and_brings_files_back(tmp_path: Path) -> None:
    done = run(
        tmp_path / "out",
        "systemctl is-system-running; grep -c -w svm /proc/cpuinfo; "
        "vgs --noheadings -o vg_name; pwd; xenner -version; "
        'echo "it\'s" >"$LAB_OUT/file"; echo aside >&2; exit 7',
    )
    assert done.returncode == 7, done.stderr
    running, cpus, group, directory, version = done.stdout.split("\n")[:5]
    assert (running, cpus, group.strip()) == ("running", "2", "lab")
    assert directory == "/srv/xenner"
    assert version.startswith("xenner ")
    assert "aside" in done.stderr
    assert (tmp_path / "out/file").read_text() == "it's\n"


def test_a_command_without_end_is_ended(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "sleep infinity", limit_s=8)
    assert done.returncode == 124
    assert "did not end in 8 s" in done.stderr


def test_a_panic_is_told_with_its_last_lines(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "echo c >/proc/sysrq-trigger; sleep infinity")
    assert done.returncode == 125
    assert "the machine ended" in done.stderr
    assert "Kernel panic" in done.stderr
