# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot guests under the real xenner on the real /dev/kvm."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments import programs
from tests.environments.rules import limit_s
from tests.kvm.xenner import Xenner

# What Linux makes of an exception in user space (arch/x86/kernel/traps.c).
_SIGNALS = {"#AC": signal.SIGBUS, "#SS": signal.SIGBUS, "#XM": signal.SIGFPE}


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
