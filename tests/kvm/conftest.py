# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot guests under the real xenner on the real /dev/kvm."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.places import programs
from tests.places.rules import limit_s

# Anything that hung is killed with this and shows as a test's failure.
_KILL_S = 10
# What Linux makes of an exception in user space (arch/x86/kernel/traps.c).
_SIGNALS = {
    "#AC": signal.SIGBUS,
    "#SS": signal.SIGBUS,
    "#XM": signal.SIGFPE,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of xenner: exit status, console, messages."""

    status: int
    console: str
    messages: str

    @property
    def lines(self) -> list[str]:
        """Console lines without their ends."""
        return self.console.replace("\r\n", "\n").splitlines()

    def failures(self) -> list[str]:
        """What the guest itself found wrong."""
        return [line for line in self.lines if line.startswith("FAIL ")]

    def report(self) -> str:
        """For the message of a failed test."""
        tail = "\n".join(self.lines[-40:])
        return f"status {self.status}\n{tail}\n--\n{self.messages[-3000:]}"


@dataclass(frozen=True, slots=True)
class Xenner:
    """Starts xenner processes whose files are in a directory of their own."""

    runtime_dir: Path

    def command(self, kernel: Path, *options: str) -> list[str]:
        """The command line, for tests that hold the process themselves."""
        return [
            sys.executable,
            "-m",
            "xennerd.vm",
            "-kernel",
            str(kernel),
            "-runtime-dir",
            str(self.runtime_dir),
            "-nographic",
            *options,
        ]

    def run(
        self, kernel: Path, *options: str, timeout_s: float = 60
    ) -> Outcome:
        """Run to the end. Fails the test when that does not come in time,
        which is `timeout_s` on the host."""
        timeout_s = limit_s(timeout_s)
        with subprocess.Popen(
            self.command(kernel, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                try:
                    out, err = process.communicate(timeout=limit_s(_KILL_S))
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, err = process.communicate()
                outcome = Outcome(-1, _text(out), _text(err))
                pytest.fail(f"no end in {timeout_s} s\n{outcome.report()}")
        return Outcome(process.returncode, _text(out), _text(err))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


@pytest.fixture(scope="session")
def kvm_kind() -> str:
    """Which KVM this is: "hardware", or "software" where ring 0 is
    interpreted and ring 3 is the host's own."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "hardware" if {"vmx", "svm"} & set(flags) else "software"


@pytest.fixture(scope="session")
def hardware(kvm_kind: str) -> str:
    """What a test guest runs on, as words for its command line.

    "kvm=KIND", and "lacks=#XM" for each exception that the processor does not
    raise. An emulated one may lack some: that is found out without any guest.
    """
    listing = subprocess.run(
        [programs.torture(), "processor"],
        capture_output=True,
        text=True,
        check=True,
        timeout=limit_s(30),
    ).stdout
    raised = dict(re.findall(r"^processor: (#\w+) +(-?[0-9]+)$", listing, re.M))
    assert raised.keys() == _SIGNALS.keys()
    lacks = [
        f"lacks={name}"
        for name, number in _SIGNALS.items()
        if int(raised[name]) != number
    ]
    return " ".join([f"kvm={kvm_kind}", *lacks])


@pytest.fixture(scope="session")
def guests_built() -> None:
    """All test guests are there; an error here is the rig's."""
    programs.guests()


@pytest.fixture
def xenner(usable_kvm: None) -> Iterator[Xenner]:
    """xenner with nothing else in its runtime directory, before or after."""
    with tempfile.TemporaryDirectory(
        prefix="xenner-test-", dir="/dev/shm"
    ) as name:
        yield Xenner(Path(name))
        left = sorted(path.name for path in Path(name).iterdir())
        vmcores = [path for path in left if path.startswith("vmcore")]
        assert not vmcores, f"left behind in the runtime directory: {left}"
