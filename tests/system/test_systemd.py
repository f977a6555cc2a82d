# SPDX-License-Identifier: GPL-2.0-or-later
"""A real systemd: units, the journal, and the installed suite under them."""

import re
import shutil
from pathlib import Path

import pytest

from tests.system.commands import Units, output_of, run


def installed(program: str) -> str:
    """Path of what a package's user would have, and no file of the tree."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not installed"
    assert Path(path).parent == Path("/usr/bin")
    return path


def test_systemd_is_running() -> None:
    done = run("systemctl", "is-system-running", "--wait")
    failed = output_of("systemctl", "--failed", "--plain", "--no-legend")
    assert done.stdout.strip() == "running", failed


def test_a_service_s_status_comes_back(units: Units) -> None:
    _, done = units.run("sh", "-c", "exit 7")
    assert done.returncode == 7


def test_journal_has_a_service_s_lines_under_its_unit(units: Units) -> None:
    name, done = units.run("sh", "-c", "echo one; echo two >&2")
    assert done.returncode == 0, done.stderr
    assert units.journal(name) == ["one", "two"]


@pytest.mark.kvm
def test_a_guest_at_a_pipe(units: Units, canary: str) -> None:
    _, done = units.run(
        *(installed("xenner"), "-kernel", canary),
        *("-m", "32", "-nographic", "-no-reboot"),
        options=("--pipe",),
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"verdict: PASS ([0-9]+)/\1", last), done.stdout


@pytest.mark.kvm
def test_a_guest_as_a_service(units: Units, canary: str) -> None:
    """With no way to anything but /dev/kvm and a directory of its own."""
    name, done = units.run(
        *(installed("xenner"), "-kernel", canary),
        *("-m", "32", "-nographic", "-no-reboot"),
        *("-runtime-dir", "/run/xenner-test"),
        options=(
            *("--property=DevicePolicy=closed",),
            *("--property=DeviceAllow=/dev/kvm rw",),
            *("--property=RuntimeDirectory=xenner-test",),
        ),
    )
    lines = units.journal(name)
    assert done.returncode == 0, lines
    assert any(line.startswith("verdict: PASS") for line in lines), lines
