# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test guest in each flavour, as tests/guests/guests.toml lists them.

The guest checks from the inside and says what it found; its last line is the
verdict. No verdict is an error of the rig or a crash, never a success.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments.record import LEFT_OUT
from tests.guests.build import Run, cases_in, guest_path, load_guests
from tests.kvm.xenner import Outcome, Xenner

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("guests_built")]

_VERDICT = re.compile(r"verdict: (PASS|FAIL) ([0-9]+)/([0-9]+)")

_IN_MACHINE = cases_in("machine")
_CASES = [
    pytest.param(
        guest.name,
        flavour,
        run,
        id=(case := f"{guest.name}.{flavour}-{run.id}"),
        marks=[] if case in _IN_MACHINE else pytest.mark.environments("host"),
    )
    for guest in load_guests()
    for flavour in guest.flavours
    for run in guest.runs
]


def initrd_of(path: Path, size_bytes: int) -> Path:
    """An initrd whose byte i is (i * 31 + 7) mod 256, as the guest expects."""
    path.write_bytes(bytes((i * 31 + 7) % 256 for i in range(size_bytes)))
    return path


def check_verdict(outcome: Outcome) -> None:
    """The last line is a verdict, it is PASS, and its numbers are true."""
    last = outcome.lines[-1] if outcome.lines else ""
    match = _VERDICT.fullmatch(last)
    if match is None:
        pytest.fail(f"ERROR: no verdict\n{outcome.report()}")
    word, passed, total = match[1], int(match[2]), int(match[3])
    failures = outcome.failures()
    assert not failures, "\n".join([*failures, outcome.messages[-2000:]])
    assert word == "PASS", outcome.report()
    assert (
        passed
        == total
        == sum(line.startswith("PASS ") for line in outcome.lines)
    ), "lines of the console are missing"


@pytest.mark.parametrize(("name", "flavour", "run"), _CASES)
def test_guest(
    name: str,
    flavour: str,
    run: Run,
    xenner: Xenner,
    hardware: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    options = [
        *("-m", str(run.memory_mib)),
        *("-append", f"{hardware} {run.append}"),
        *run.options,
    ]
    if run.initrd_bytes:
        initrd = initrd_of(tmp_path / "initrd", run.initrd_bytes)
        options += ["-initrd", str(initrd)]
    outcome = xenner.run(
        guest_path(name, flavour), *options, timeout_s=run.timeout_s
    )
    for line in outcome.lines:
        if line.startswith("SKIP "):
            record_property(LEFT_OUT, f"{name}: {line.removeprefix('SKIP ')}")
    check_verdict(outcome)
    assert outcome.status == run.status, outcome.report()
    for text in run.expect_stderr:
        assert text in outcome.messages, outcome.report()


@pytest.mark.environments("host")
def test_flood_is_in_order(
    xenner: Xenner, hardware: str, guests_built: None
) -> None:
    """Fifty times the console ring's size: each line once and in order."""
    outcome = xenner.run(guest_path("console_io", "high"), "-append", hardware)
    numbers = [
        int(line.split()[1])
        for line in outcome.lines
        if line.startswith("flood ")
    ]
    assert numbers == list(range(2000))
