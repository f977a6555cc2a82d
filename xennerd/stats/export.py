# SPDX-License-Identifier: GPL-2.0-or-later
"""Readings for programs, as JSON. Pure."""

from __future__ import annotations

from typing import Any

from xennerd.stats.reading import KvmStat, Reading
from xennerd.stats.view import shares, totals


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
