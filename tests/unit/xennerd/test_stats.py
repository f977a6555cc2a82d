# SPDX-License-Identifier: GPL-2.0-or-later
"""Readings as text, JSON and Prometheus' format; command lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xenner.types import Domid
from xennerd.stats.__main__ import main
from xennerd.stats.export import as_json
from xennerd.stats.prometheus import as_prometheus
from xennerd.stats.reading import KvmStat, Reading
from xennerd.stats.view import format_reading, human_bytes, shares, totals

ENTRIES = "events and entries"


def vcpu(hypercalls: int, blocks: int) -> dict[str, dict[str, int]]:
    return {
        "hypercalls": {"sched_op": hypercalls},
        "traps": {"page_fault": 3},
        "privileged instructions": {},
        ENTRIES: {"block": blocks, "irq": 0},
    }


def kvm(wait_ns: int) -> tuple[KvmStat, ...]:
    return (
        KvmStat("exits", "cumulative", "", 1.0, 5),
        KvmStat("halt_wait_ns", "cumulative", "seconds", 1e-9, wait_ns),
        KvmStat("max_depth", "peak", "", 1.0, 7),
        KvmStat("wait_hist", "log2-histogram", "seconds", 1e-9, (1, 2)),
    )


READING = Reading(
    domid=Domid(7),
    name="web",
    at_s=100.0,
    state="running",
    is_software_kvm=True,
    guest_bytes=16 << 20,
    resident_bytes=24 << 20,
    counters=(vcpu(1, 10), vcpu(2, 20)),
    found=(
        {"guest": 3, "emu": 1, "blocked": 0, "down": 0},
        {"guest": 0, "emu": 0, "blocked": 0, "down": 4},
    ),
    cpu_s=(1.5, None),
    kvm_vm=(KvmStat("pages_4k", "instant", "", 1.0, 9),),
    kvm_vcpus=(kvm(500_000_000), kvm(250_000_000)),
)
LATER = replace(
    READING,
    at_s=102.0,
    cpu_s=(2.5, None),
    counters=(vcpu(5, 10), vcpu(2, 20)),
    kvm_vcpus=(kvm(1_500_000_000), kvm(250_000_000)),
)


def rows(text: str) -> dict[str, str]:
    """Lines of the tables: a name and what stands behind it."""
    found = {}
    for line in text.splitlines():
        if line.startswith("    "):
            name, _, rest = line.strip().partition("  ")
            found[name] = " ".join(rest.split())
    return found


def test_tables_for_people() -> None:
    text = format_reading(READING, None)
    assert text.startswith(
        "domain 7 (web), running, 2 vCPUs, 16.0 MiB of memory, "
        "24.0 MiB of the host in use, software KVM\n"
    )
    found = rows(text)
    assert found["vCPU 0"].startswith("1.500 s guest 75%, emu 25%")
    assert found["sched_op"] == "3"
    assert found["block"] == "30"
    assert found["exits"] == "10"
    assert found["halt_wait_ns"] == "0.750000 s"
    # A peak has no sum.
    assert found["max_depth"] == "7"
    assert found["pages_4k"] == "9"
    # What never happened is not there.
    assert "irq" not in found


def test_rates_are_since_the_reading_before() -> None:
    found = rows(format_reading(LATER, READING))
    assert found["sched_op"] == "7 2.0/s"
    assert found["block"] == "30"
    assert found["halt_wait_ns"] == "1.750000 s 0.500000 s/s"
    assert found["vCPU 0"].endswith("50% of a CPU")


def test_counters_that_begin_anew_have_no_rate() -> None:
    assert rows(format_reading(READING, LATER))["sched_op"] == "3"
    later = replace(LATER, at_s=READING.at_s)
    assert rows(format_reading(later, READING))["sched_op"] == "7"


def test_a_name_cannot_steer_the_terminal() -> None:
    text = format_reading(replace(READING, name="a\x1b[2Jb"), None)
    assert "\x1b" not in text


def test_why_there_is_nothing_of_kvm_is_said() -> None:
    bare = replace(READING, kvm_vm=(), kvm_vcpus=(), why_no_kvm="no monitor")
    assert "KVM: nothing known: no monitor" in format_reading(bare, None)
    assert as_json(bare, None)["why_no_kvm"] == "no monitor"


def test_json() -> None:
    made = as_json(LATER, READING)
    assert (made["domid"], made["name"], made["kvm_kind"]) == (
        *(7, "web"),
        "software",
    )
    assert made["vcpus"][0]["hypercalls"] == {"sched_op": 5}
    assert made["vcpus"][0]["time_shares"]["guest"] == 0.75
    assert made["vcpus"][0]["kvm"][1] == {
        "name": "halt_wait_ns",
        "type": "cumulative",
        "value": 1_500_000_000,
        "unit": "seconds",
        "scale": 1e-9,
    }
    assert made["rates"]["hypercalls"] == {"sched_op": 2.0}
    assert made["rates"]["events_and_entries"] == {}
    assert "rates" not in as_json(READING, None)


def test_prometheus() -> None:
    other = replace(READING, domid=Domid(8), name='we"b\\\n')
    found = {
        # Each metric is described once, and its samples stand together.
        metric.name: metric
        for metric in text_string_to_metric_families(
            as_prometheus([READING, other])
        )
    }
    own = {"domid": "7", "domain": "web", "vcpu": "0"}
    calls = found["xenner_vcpu_hypercalls"]
    assert (calls.type, calls.documentation) == (
        *("counter", "Hypercalls of the guest."),
    )
    first = calls.samples[0]
    assert first.name == "xenner_vcpu_hypercalls_total"
    assert first.labels == {**own, "hypercall": "sched_op"}
    assert first.value == 1
    assert calls.samples[-1].labels["domain"] == other.name
    waited = found["xenner_kvm_vcpu_halt_wait_seconds"]
    assert waited.type == "counter"
    assert waited.samples[0].name == f"{waited.name}_total"
    assert (waited.samples[0].labels, waited.samples[0].value) == (own, 0.5)
    depth = found["xenner_kvm_vcpu_max_depth"]
    assert (depth.type, depth.samples[0].value) == ("gauge", 7)
    assert found.keys() >= {
        *("xenner_domain_info", "xenner_domain_guest_memory_bytes"),
        *("xenner_domain_resident_memory_bytes", "xenner_vcpu_time_ratio"),
        *("xenner_vcpu_traps", "xenner_vcpu_emu_events"),
        "xenner_vcpu_cpu_seconds",
    }


def test_shares_and_totals_of_nothing() -> None:
    assert shares(dict.fromkeys(("guest", "emu", "blocked", "down"), 0)) == {}
    assert totals(replace(READING, counters=())) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 51, "2,048.0 TiB")],
)
def test_sizes(value: int, text: str) -> None:
    assert human_bytes(value) == text


@pytest.mark.parametrize(
    "arguments",
    [
        ["-w", "0"],
        ["-w", "x"],
        ["-w", "1", "--prometheus"],
        ["-n", "2"],
        ["-w", "1", "-n", "0"],
        ["--json", "--prometheus"],
        ["--sample", "-1"],
    ],
)
def test_command_lines_that_are_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "xenner-stats: error:" in capsys.readouterr().err
