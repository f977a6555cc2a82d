# SPDX-License-Identifier: GPL-2.0-or-later
"""What a part says: JSON for machines, a table for people."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.environments.rules import current_environment


class AbsentError(Exception):
    """A part cannot be run here; str() says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case of a part. `outcome` is "ok", or says what went wrong."""

    part: str
    case: str
    seconds: float
    operations: int
    unit: str
    outcome: str
    extra: dict[str, Any] = field(default_factory=dict)
    date: str = field(
        default_factory=lambda: datetime.now(UTC).date().isoformat()
    )
    kvm: str = field(default_factory=lambda: kvm_kind())
    vendor: str = field(default_factory=lambda: vendor())

    @property
    def is_ok(self) -> bool:
        return self.outcome == "ok"

    def to_json(self) -> str:
        values = asdict(self)
        extra = values.pop("extra")
        return json.dumps({**values, **extra})

    def to_row(self) -> str:
        """The line for people, which is also docs/soak.md's."""
        return (
            f"| {self.date} | {self.part}/{self.case} | {self.kvm} "
            f"| {self.vendor} | {self.seconds:.0f} "
            f"| {self.operations} {self.unit} | {self.outcome} |"
        )


ROW_HEADING = "| date | part | KVM | processor | seconds | did | outcome |"


def cpu_facts(text: str) -> tuple[str, str]:
    """The kind of KVM and the vendor that a /proc/cpuinfo tells of."""
    is_hardware = bool({"vmx", "svm"} & set(text.split()))
    match = re.search(r"^vendor_id\s*: (\S+)", text, re.MULTILINE)
    name = match[1] if match else "unknown"
    vendors = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
    return ("hardware" if is_hardware else "software"), vendors.get(name, name)


def kvm_kind() -> str:
    return cpu_facts(Path("/proc/cpuinfo").read_text())[0]


def vendor() -> str:
    """The processor's; what the lab's machine has is emulated."""
    name = cpu_facts(Path("/proc/cpuinfo").read_text())[1]
    return name + (", emulated" if current_environment() == "machine" else "")


def parse(line: str) -> Result:
    """A line of to_json()'s. KeyError if a value is missing."""
    values = json.loads(line)
    names = [item.name for item in fields(Result) if item.name != "extra"]
    known = {name: values.pop(name) for name in names}
    return Result(**known, extra=values)


def in_lab(case: str, minutes: float) -> Result:
    """What `python -m soak CASE MINUTES` finds in the lab machine."""
    limit_s = minutes * 60 + 900
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lab", "run", "--limit-s", str(limit_s)),
            *("--", f"python3 -m soak {case} {minutes}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
    if not lines:
        raise AbsentError(f"the lab machine ended with {done.returncode}")
    return parse(lines[-1])


def report(name: str, run: Callable[[], Result]) -> Result | None:
    """Run, print the JSON line; None, said aloud, where it is absent."""
    print(f"{name}: running", file=sys.stderr, flush=True)
    try:
        result = run()
    except AbsentError as reason:
        print(f"{name}: absent: {reason}", file=sys.stderr)
        return None
    if result.is_ok and not result.operations:
        result = replace(result, outcome="nothing was done")
    print(result.to_json(), flush=True)
    return result
