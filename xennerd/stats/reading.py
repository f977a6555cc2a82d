# SPDX-License-Identifier: GPL-2.0-or-later
"""What xenner-stats reads: emu's counters from the vmcore, KVM's by QMP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenner import abi
from xenner.errors import HostError
from xenner.paths import monitor_path
from xenner.types import Domid
from xenner.vmcores import VmcoreView
from xennerd.qmp.client import QmpClient
from xennerd.vm import recorder

STATES = ("guest", "emu", "blocked", "down")
"""What a vCPU can be found doing."""

_SAMPLE_EVERY_S = 0.002


@dataclass(frozen=True, slots=True)
class KvmStat:
    """One of KVM's statistics: a number, or a histogram's numbers.

    A number counts base ** exponent of `unit`; unit "" is a plain count.
    """

    name: str
    kind: str
    unit: str
    scale: float
    value: int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One domain at one moment.

    `counters` has one mapping per vCPU: group -> name -> count. `found` says
    for each vCPU how often it was found in each of STATES, `cpu_s` how much
    processor time its thread has used. `why_no_kvm`: what stands in place of
    KVM's statistics.
    """

    domid: Domid
    name: str
    at_s: float
    state: str
    is_software_kvm: bool
    guest_bytes: int
    resident_bytes: int
    counters: tuple[dict[str, dict[str, int]], ...]
    found: tuple[dict[str, int], ...]
    cpu_s: tuple[float | None, ...] = ()
    kvm_vm: tuple[KvmStat, ...] = ()
    kvm_vcpus: tuple[tuple[KvmStat, ...], ...] = ()
    why_no_kvm: str = ""


@dataclass(slots=True)
class _Told:
    """What a domain's monitor says."""

    name: str = ""
    status: str = "running"
    threads: list[int] = field(default_factory=list)
    vm: tuple[KvmStat, ...] = ()
    vcpus: tuple[tuple[KvmStat, ...], ...] = ()
    why_no_kvm: str = ""


def domain_name(runtime_dir: Path, domid: Domid) -> str:
    """As its monitor has it; empty if nobody says it."""
    with (
        suppress(HostError),
        QmpClient(monitor_path(runtime_dir, domid)) as monitor,
    ):
        return str(monitor.execute("query-name").get("name", ""))
    return ""


def find_states(
    views: Sequence[VmcoreView], duration_s: float
) -> list[tuple[dict[str, int], ...]]:
    """Look at every vCPU again and again for so long.

    emu says in each vCPU's block where it is; how often it is found there is
    its share of the time. That costs the guest nothing.
    """
    found = [
        tuple(dict.fromkeys(STATES, 0) for _ in range(view.nr_vcpus))
        for view in views
    ]
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        for view, counts in zip(views, found, strict=True):
            for number, count in enumerate(counts):
                count[_state_of(view, number)] += 1
        time.sleep(_SAMPLE_EVERY_S)
    return found


def _state_of(view: VmcoreView, number: int) -> str:
    bits = int(recorder.vcpu_block(view.mem, number).state)
    if not bits & abi.EMU_VCPU_UP:
        return "down"
    if bits & abi.EMU_VCPU_BLOCKED:
        return "blocked"
    return "guest" if bits & abi.EMU_VCPU_IN_GUEST else "emu"


def read_domain(
    view: VmcoreView, monitor: Path, found: tuple[dict[str, int], ...]
) -> Reading:
    """All that there is to know now; a monitor that is missing is said."""
    told = _ask(monitor) if view.is_live else _Told(why_no_kvm="it has ended")
    return Reading(
        domid=view.domid,
        name=told.name,
        at_s=time.monotonic(),
        state=told.status if view.is_live else "dead",
        is_software_kvm=view.has_slow_ring0,
        guest_bytes=view.guest_bytes,
        resident_bytes=view.resident_bytes,
        counters=tuple(
            _grouped(recorder.counters(view.mem, number))
            for number in range(view.nr_vcpus)
        ),
        found=found,
        cpu_s=tuple(_cpu_s(thread) for thread in told.threads),
        kvm_vm=told.vm,
        kvm_vcpus=told.vcpus,
        why_no_kvm=told.why_no_kvm,
    )


def _grouped(counters: dict[str, Any]) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = {
        "hypercalls": dict(counters["hypercalls"]),
        "traps": dict(counters["traps"]),
        "privileged instructions": dict(counters["privops"]),
        "events and entries": {
            name: value
            for name, value in counters.items()
            if isinstance(value, int)
        },
    }
    if unknown := groups["events and entries"].pop("hypercall_unknown"):
        groups["hypercalls"]["unknown"] = unknown
    return groups


def _ask(path: Path) -> _Told:
    told = _Told()
    try:
        with QmpClient(path) as monitor:
            told.name = str(monitor.execute("query-name").get("name", ""))
            told.status = str(monitor.execute("query-status")["status"])
            cpus = monitor.execute("query-cpus-fast")
            told.threads = [int(cpu["thread-id"]) for cpu in cpus]
            _ask_kvm(monitor, told)
    except HostError as error:
        told.why_no_kvm = str(error)
    except (KeyError, TypeError, ValueError, AttributeError):
        told.why_no_kvm = f"monitor at {path}: an answer of unknown form"
    return told


def _ask_kvm(monitor: QmpClient, told: _Told) -> None:
    schemas = {
        (schema["target"], stat["name"]): stat
        for schema in monitor.execute("query-stats-schemas")
        for stat in schema["stats"]
    }
    if not schemas:
        told.why_no_kvm = "this KVM has no binary statistics (Linux 5.14)"
        return

    def ask(target: str) -> list[tuple[KvmStat, ...]]:
        return [
            tuple(
                _stat(stat, schemas[target, stat["name"]])
                for stat in result["stats"]
            )
            for result in monitor.execute("query-stats", target=target)
        ]

    told.vm = sum(ask("vm"), ())
    told.vcpus = tuple(ask("vcpu"))


def _stat(stat: dict[str, Any], schema: dict[str, Any]) -> KvmStat:
    value = stat["value"]
    return KvmStat(
        name=str(stat["name"]),
        kind=str(schema["type"]),
        unit=str(schema.get("unit", "")),
        scale=float(schema.get("base", 10)) ** int(schema["exponent"]),
        value=tuple(map(int, value)) if isinstance(value, list) else int(value),
    )


def _cpu_s(thread: int) -> float | None:
    """Processor time of a thread (proc_pid_schedstat); None if it is gone."""
    try:
        text = Path(f"/proc/{thread}/schedstat").read_text()
        return int(text.split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None
