# SPDX-License-Identifier: GPL-2.0-or-later
"""Readings for programs: JSON, and Prometheus' text format. Pure.

Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/ and
its rules for names: base units, "_total" for what only grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xennerd.stats.reading import KvmStat, Reading
from xennerd.stats.view import shares, totals

_UNIT_SUFFIXES = {"seconds": ("_ns", "_seconds"), "bytes": ("", "_bytes")}
_HYPERCALLS, _TRAPS = "hypercalls", "traps"
_PRIVOPS, _ENTRIES = "privileged instructions", "events and entries"


def as_json(reading: Reading, before: Reading | None) -> dict[str, Any]:
    """One domain. Times are seconds, sizes bytes; KVM's numbers are as KVM
    has them, with unit and scale. `rates` are per second since `before`."""
    result: dict[str, Any] = {
        "domid": reading.domid,
        "name": reading.name,
        "state": reading.state,
        "kvm_kind": "software" if reading.is_software_kvm else "hardware",
        "guest_bytes": reading.guest_bytes,
        "resident_bytes": reading.resident_bytes,
        "vcpus": [_vcpu_json(reading, n) for n in range(len(reading.counters))],
        "kvm": [_stat_json(stat) for stat in reading.kvm_vm],
    }
    if reading.why_no_kvm:
        result["why_no_kvm"] = reading.why_no_kvm
    if before is not None:
        result["rates"] = _rates(reading, before)
    return result


def _vcpu_json(reading: Reading, number: int) -> dict[str, Any]:
    vcpu: dict[str, Any] = {
        group.replace(" ", "_"): counts
        for group, counts in reading.counters[number].items()
    }
    if looked := shares(reading.found[number]):
        vcpu["time_shares"] = looked
    if number < len(reading.cpu_s):
        vcpu["cpu_s"] = reading.cpu_s[number]
    if number < len(reading.kvm_vcpus):
        vcpu["kvm"] = [_stat_json(stat) for stat in reading.kvm_vcpus[number]]
    return vcpu


def _stat_json(stat: KvmStat) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": stat.name,
        "type": stat.kind,
        "value": stat.value,
    }
    if stat.unit:
        result |= {"unit": stat.unit, "scale": stat.scale}
    return result


def _rates(reading: Reading, before: Reading) -> dict[str, dict[str, float]]:
    """Of all vCPUs together; what went back (a reboot) is left out."""
    elapsed_s = reading.at_s - before.at_s
    then = totals(before)
    return {
        group.replace(" ", "_"): {
            name: (count - old) / elapsed_s
            for name, count in counts.items()
            if count > (old := then.get(group, {}).get(name, 0))
        }
        for group, counts in totals(reading).items()
        if elapsed_s > 0
    }


@dataclass(slots=True)
class _Family:
    """One metric: its type, what it is, its samples."""

    kind: str
    help: str
    lines: list[str] = field(default_factory=list)


def as_prometheus(readings: Sequence[Reading]) -> str:
    """The whole page; all samples of a metric stand together."""
    families: dict[str, _Family] = {}
    for reading in readings:
        for name, kind, text, labels, value in _samples(reading):
            family = families.setdefault(name, _Family(kind, text))
            family.lines.append(f"{name}{_labels(labels)} {_number(value)}")
    return "".join(
        f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
        + "".join(line + "\n" for line in family.lines)
        for name, family in families.items()
    )


_Sample = tuple[str, str, str, dict[str, str], float]


def _samples(reading: Reading) -> Iterator[_Sample]:
    own = {"domid": str(reading.domid), "domain": reading.name}
    yield (
        "xenner_domain_info",
        "gauge",
        "A domain that has a vmcore; 1.",
        {
            **own,
            "state": reading.state,
            "kvm": "software" if reading.is_software_kvm else "hardware",
        },
        1,
    )
    for name, value in (
        ("guest", reading.guest_bytes),
        ("resident", reading.resident_bytes),
    ):
        yield (
            f"xenner_domain_{name}_memory_bytes",
            "gauge",
            "Memory that the guest may have."
            if name == "guest"
            else "Memory of the host that the vmcore takes.",
            own,
            value,
        )
    for number in range(len(reading.counters)):
        yield from _vcpu_samples(reading, number, {**own, "vcpu": str(number)})
    for stat in reading.kvm_vm:
        yield from _kvm_sample("vm", stat, own)


_GROUPS = {
    _HYPERCALLS: ("hypercalls", "hypercall", "Hypercalls of the guest."),
    _TRAPS: ("traps", "trap", "Exceptions of the guest that emu took."),
    _PRIVOPS: (
        "privileged_instructions",
        "instruction",
        "Privileged instructions that emu did for the guest.",
    ),
    _ENTRIES: ("emu_events", "event", "What else emu counts."),
}


def _vcpu_samples(
    reading: Reading, number: int, own: dict[str, str]
) -> Iterator[_Sample]:
    for group, counts in reading.counters[number].items():
        what, label, text = _GROUPS[group]
        for name, count in counts.items():
            labels = {**own, label: name}
            yield f"xenner_vcpu_{what}_total", "counter", text, labels, count
    for state, share in shares(reading.found[number]).items():
        yield (
            "xenner_vcpu_time_ratio",
            "gauge",
            "How often the vCPU was found there, just now.",
            {**own, "state": state},
            share,
        )
    cpu_s = reading.cpu_s[number] if number < len(reading.cpu_s) else None
    if cpu_s is not None:
        yield (
            "xenner_vcpu_cpu_seconds_total",
            "counter",
            "Processor time of the vCPU's thread.",
            own,
            cpu_s,
        )
    if number < len(reading.kvm_vcpus):
        for stat in reading.kvm_vcpus[number]:
            yield from _kvm_sample("vcpu", stat, own)


def _kvm_sample(
    what: str, stat: KvmStat, own: dict[str, str]
) -> Iterator[_Sample]:
    """Histograms are left out: their buckets are not Prometheus' kind."""
    if not isinstance(stat.value, int):
        return
    cut, suffix = _UNIT_SUFFIXES.get(stat.unit, ("", ""))
    name = stat.name.removesuffix(cut).removesuffix(suffix) + suffix
    name = re.sub(r"[^a-zA-Z0-9_]", "_", f"xenner_kvm_{what}_{name}")
    kind = "gauge"
    if stat.kind == "cumulative":
        name, kind = f"{name}_total", "counter"
    yield name, kind, f"KVM's {stat.name}.", own, stat.value * stat.scale


def _labels(labels: dict[str, str]) -> str:
    return (
        "{" + ",".join(f'{k}="{_escape(v)}"' for k, v in labels.items()) + "}"
    )


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
