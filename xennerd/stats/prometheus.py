# SPDX-License-Identifier: GPL-2.0-or-later
"""Readings as Prometheus has them.

https://prometheus.io/docs/practices/naming/: base units, "_total" for what
only grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
)

from xenner.prometheus import to_text
from xennerd.stats.reading import KvmStat, Reading
from xennerd.stats.view import shares

_UNIT_SUFFIXES = {"seconds": ("_ns", "_seconds"), "bytes": ("", "_bytes")}
_HYPERCALLS, _TRAPS = "hypercalls", "traps"
_PRIVOPS, _ENTRIES = "privileged instructions", "events and entries"
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def as_prometheus(readings: Sequence[Reading]) -> str:
    """The whole page; all samples of a metric stand together."""
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for reading in readings:
        for name, kind, text, labels, value in _samples(reading):
            if name not in families:
                families[name] = _FAMILIES[kind](name, text, labels=[*labels])
            families[name].add_metric([*labels.values()], value)
    return to_text(families.values())


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
