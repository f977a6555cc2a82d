# SPDX-License-Identifier: GPL-2.0-or-later
"""A reading of a domain as text for people, with rates if there were two.

Pure. What comes from a guest is numbers only; its name is made printable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from xennerd.stats.reading import STATES, KvmStat, Reading
from xennerd.vm.recorder import printable

_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti")
_WIDTH = 28

Row = tuple[str, str, str]
"""A name, what it is now, and how fast it grows (empty: not known)."""


def format_reading(reading: Reading, before: Reading | None) -> str:
    """Lines with their ends; rates are since `before`."""
    lines = [_headline(reading), *_table("time", _times(reading, before))]
    now, then = totals(reading), totals(before) if before else {}
    elapsed_s = reading.at_s - before.at_s if before else 0.0
    for group, counts in now.items():
        old = then.get(group, {})
        rows = [
            (
                name,
                f"{count:,}",
                _per_second(count - old.get(name, 0), elapsed_s),
            )
            for name, count in sorted(counts.items(), key=lambda item: -item[1])
            if count
        ]
        lines += _table(group, rows)
    for title, stats, old_stats in (
        ("KVM, virtual CPUs", _summed(reading), _summed(before)),
        ("KVM, machine", _by_name(reading.kvm_vm), _machine_of(before)),
    ):
        lines += _table(title, _kvm_rows(stats, old_stats, elapsed_s))
    if reading.why_no_kvm:
        lines.append(f"  KVM: nothing known: {reading.why_no_kvm}")
    return "".join(line + "\n" for line in lines)


def totals(reading: Reading) -> dict[str, dict[str, int]]:
    """emu's counters of all vCPUs together, by group and name."""
    result: dict[str, Counter[str]] = {}
    for vcpu in reading.counters:
        for group, counts in vcpu.items():
            result.setdefault(group, Counter()).update(counts)
    return {group: dict(counts) for group, counts in result.items()}


def shares(found: Mapping[str, int]) -> dict[str, float]:
    """Of the time, 0 to 1 by state; empty if nobody has looked."""
    looks = sum(found.values())
    return {state: found[state] / looks for state in STATES} if looks else {}


def _headline(reading: Reading) -> str:
    name = printable(reading.name.encode())
    count = len(reading.counters)
    return ", ".join(
        (
            f"domain {reading.domid}" + (f" ({name})" if name else ""),
            reading.state,
            "1 vCPU" if count == 1 else f"{count} vCPUs",
            f"{human_bytes(reading.guest_bytes)} of memory",
            f"{human_bytes(reading.resident_bytes)} of the host in use",
            "software KVM" if reading.is_software_kvm else "hardware KVM",
        )
    )


def _times(reading: Reading, before: Reading | None) -> Iterator[Row]:
    """Each vCPU: its thread's processor time, and where it was found."""
    elapsed_s = reading.at_s - before.at_s if before else 0.0
    for number, found in enumerate(reading.found):
        parts = [f"{s} {share:.0%}" for s, share in shares(found).items()]
        used, rate = "", ""
        if number < len(reading.cpu_s):
            cpu_s = reading.cpu_s[number]
            if cpu_s is not None:
                used = f"{cpu_s:,.3f} s"
                if elapsed_s and before and number < len(before.cpu_s):
                    since = cpu_s - (before.cpu_s[number] or 0.0)
                    rate = f"{since / elapsed_s:.0%} of a CPU"
        said = ", ".join(parts)
        if used or said:
            yield f"vCPU {number}", "  ".join(filter(None, (used, said))), rate


def _kvm_rows(
    stats: Mapping[str, KvmStat],
    before: Mapping[str, KvmStat],
    elapsed_s: float,
) -> Iterator[Row]:
    for name, stat in stats.items():
        if not isinstance(stat.value, int) or not stat.value:
            continue
        rate = ""
        old = before.get(name)
        if stat.kind == "cumulative" and old and isinstance(old.value, int):
            rate = _per_second(
                (stat.value - old.value) * stat.scale, elapsed_s, stat.unit
            )
        yield name, _amount(stat.value * stat.scale, stat.unit), rate


def _summed(reading: Reading | None) -> dict[str, KvmStat]:
    """Sums of all vCPUs' numbers; what has no sum is the first one's."""
    result: dict[str, KvmStat] = {}
    for vcpu in reading.kvm_vcpus if reading else ():
        for stat in vcpu:
            old = result.get(stat.name)
            value = stat.value
            if old and isinstance(old.value, int) and isinstance(value, int):
                value = (
                    max(old.value, value)
                    if stat.kind == "peak" or stat.unit == "boolean"
                    else old.value + value
                )
            result[stat.name] = KvmStat(
                stat.name, stat.kind, stat.unit, stat.scale, value
            )
    return result


def _by_name(stats: Sequence[KvmStat]) -> dict[str, KvmStat]:
    return {stat.name: stat for stat in stats}


def _machine_of(reading: Reading | None) -> dict[str, KvmStat]:
    return _by_name(reading.kvm_vm) if reading else {}


def _table(title: str, rows: Iterator[Row] | Sequence[Row]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    yield f"  {title}"
    width = max(len(row[1]) for row in rows)
    for name, amount, rate in rows:
        line = f"    {name:<{_WIDTH}} {amount:>{width}}"
        yield f"{line}  {rate:>16}" if rate else line


def _amount(value: float, unit: str) -> str:
    match unit:
        case "bytes":
            return human_bytes(value)
        case "seconds":
            return f"{value:,.6f} s"
        case "boolean":
            return "yes" if value else "no"
        case "cycles":
            return f"{value:,.0f} cycles"
    return f"{value:,.0f}"


def _per_second(delta: float, elapsed_s: float, unit: str = "") -> str:
    """A rate; a counter that went back started at 0: the guest rebooted."""
    if elapsed_s <= 0 or delta <= 0:
        return ""
    rate = delta / elapsed_s
    if unit in ("bytes", "seconds"):
        return f"{_amount(rate, unit)}/s"
    return f"{rate:,.1f}/s"


def human_bytes(value: float) -> str:
    """1.5 MiB."""
    for prefix in _PREFIXES[:-1]:
        if value < 1024:
            return f"{value:,.1f} {prefix}B" if prefix else f"{value:.0f} B"
        value /= 1024
    return f"{value:,.1f} {_PREFIXES[-1]}B"
