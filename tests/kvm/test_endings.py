# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends that come from outside, and the start after the end."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.guests.build import guest_path
from tests.kvm.xenner import Xenner
from tests.support.qmp import qmp
from xenner import abi

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("guests_built")]

_ENDING = guest_path("ending", "high")
# A note's head with its name, then struct elf_prstatus up to pr_reg.
_PR_REG = 20 + 112
# In struct user_regs_struct, and what end=loop sets (ending.c).
_FS_BASE, _GS_BASE = 21, 22
_LOOP_FS_BASE, _LOOP_GS_BASE = 0x00000F5BA5E00000, 0xFFFFC95BA5E00000


@contextmanager
def started(
    xenner: Xenner, end: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A guest that has printed its verdict, that is: reached its end."""
    command = xenner.command(_ENDING, "-append", f"end={end}", *options)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"verdict:"):
                    break
            else:
                pytest.fail(f"the guest did not get as far as end={end}")
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.environments("host")
def test_many_short_lines(xenner: Xenner) -> None:
    """They are taken many at a time, and all of them, in their order."""
    outcome = xenner.run(_ENDING, "-append", "end=lines", "-no-reboot")
    assert outcome.status == 0, outcome.report()
    lines = [line for line in outcome.lines if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(20_000)]


@pytest.mark.environments("host")
def test_the_console_is_in_the_log_too(xenner: Xenner, tmp_path: Path) -> None:
    file = tmp_path / "console"
    done = subprocess.run(
        [
            *xenner.command(_ENDING, "-append", "end=poweroff"),
            *("-serial", f"file:{file},log"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(60),
    )
    assert done.returncode == 0, done.stderr
    said = file.read_text().replace("\r", "").splitlines()
    assert any(line.startswith("verdict:") for line in said)
    for line in filter(None, said):
        assert f"xenner.guest: {line}" in done.stderr.splitlines()


@pytest.mark.parametrize("end", ["loop", "idle"])
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.environments("host")),
    ],
)
def test_signal_ends_any_guest(
    xenner: Xenner, end: str, number: signal.Signals
) -> None:
    """However busy or quiet the guest is, it ends soon after the signal."""
    with started(xenner, end) as process:
        process.send_signal(number)
        process.communicate(timeout=limit_s(20))
        assert process.returncode is not None


def _cpu_ticks(pid: int) -> int:
    """User and system time of a process with its threads (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# An emulated processor's time says nothing.
@pytest.mark.environments("host")
def test_blocked_guest_costs_nothing(xenner: Xenner) -> None:
    """No event, no timer: half a second of it takes next to no CPU time."""
    with started(xenner, "idle") as process:
        before = _cpu_ticks(process.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        used_s = (_cpu_ticks(process.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert used_s <= 0.1
        process.terminate()
        process.communicate(timeout=limit_s(20))


@pytest.mark.environments("host")
def test_killed_leaves_only_what_the_next_start_cleans(
    xenner: Xenner,
) -> None:
    with started(xenner, "idle", "-domid", "77") as process:
        process.kill()
        process.wait(timeout=limit_s(20))
    outcome = xenner.run(
        _ENDING, "-append", "end=poweroff", "-domid", "77", "-no-reboot"
    )
    assert outcome.status == 0, outcome.report()
    assert outcome.lines[-1].startswith("verdict: PASS"), outcome.report()


@pytest.mark.environments("host")
def test_same_domid_twice_is_refused(xenner: Xenner) -> None:
    with started(xenner, "idle", "-domid", "78") as process:
        outcome = xenner.run(_ENDING, "-append", "end=poweroff", "-domid", "78")
        assert outcome.status in (1, 2)
        assert outcome.console == ""
        assert len(outcome.messages.splitlines()) == 1, outcome.report()
        assert process.poll() is None, "the first one was disturbed"
        process.terminate()
        process.communicate(timeout=limit_s(20))


def test_reboot_starts_anew(xenner: Xenner) -> None:
    """Without -no-reboot the guest comes again and again, from its image."""
    with started(xenner, "reboot") as process:
        assert process.stdout is not None
        starts = 1
        for line in process.stdout:
            starts += line.startswith(b"guest: ")
            if starts == 3:
                break
        assert starts == 3
        process.terminate()
        process.communicate(timeout=limit_s(20))


def test_stopped_guest_shows_its_segment_bases(
    xenner: Xenner, tmp_path: Path
) -> None:
    """They are in the CPU only, and never emu's: the core's note has them."""
    path = tmp_path / "qmp"
    with (
        started(
            xenner, "loop", "-domid", "79", "-monitor", f"unix:{path}"
        ) as process,
        qmp(path) as ask,
    ):
        ask("stop")
        with (xenner.runtime_dir / "vmcore.79").open("rb") as core:
            core.seek(abi.VMCORE_NOTES_GPA + _PR_REG)
            registers = struct.unpack("<27Q", core.read(27 * 8))
        ask("quit")
        process.communicate(timeout=limit_s(20))
    assert registers[_FS_BASE] == _LOOP_FS_BASE
    assert registers[_GS_BASE] == _LOOP_GS_BASE
