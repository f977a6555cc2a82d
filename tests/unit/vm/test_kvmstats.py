# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's binary statistics: recorded bytes in, numbers and QMP's form out."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xennerd.qmp.request import QmpError
from xennerd.vm.kvm.stats import Kind, Unit, read_descriptors, read_stats
from xennerd.vm.monitor.stats import query_schemas, query_stats

_NAME_BYTES = 48
# name, flags, exponent, numbers, bucket size: as Linux has these.
_STATS = (
    ("exits", 0x000, 0, [12], 0),
    ("halt_wait_ns", 0x020, -9, [5_000], 0),
    ("pages_4k", 0x001, 0, [0], 0),
    ("guest_mode", 0x041, 0, [1], 0),
    ("halt_poll_success_hist", 0x024, -9, [1, 2, 4], 0),
    ("max_mmu_rmap_size", 0x002, 0, [9], 0),
    ("hist", 0x003, 0, [7, 8], 10),
    ("from_the_future", 0x00F, 0, [1], 0),
)


@pytest.fixture
def stats_fd(tmp_path: Path) -> Iterator[int]:
    """What KVM_GET_STATS_FD would give, as a file."""
    descriptors, data = b"", b""
    for name, flags, exponent, numbers, bucket in _STATS:
        descriptors += struct.pack(
            "<IhHII", flags, exponent, len(numbers), len(data), bucket
        )
        descriptors += name.encode().ljust(_NAME_BYTES, b"\0")
        data += struct.pack(f"<{len(numbers)}Q", *numbers)
    at = 24 + 16
    header = struct.pack(
        "<6I", 0, _NAME_BYTES, len(_STATS), 24, at, at + len(descriptors)
    )
    path = tmp_path / "stats"
    path.write_bytes(header + b"kvm-1/vcpu-0".ljust(16) + descriptors + data)
    with path.open("rb") as file:
        yield file.fileno()


def test_descriptors(stats_fd: int) -> None:
    found = {d.name: d for d in read_descriptors(stats_fd)}
    assert "from_the_future" not in found
    waited = found["halt_wait_ns"]
    assert (waited.kind, waited.unit) == (Kind.CUMULATIVE, Unit.SECONDS)
    assert (waited.base, waited.exponent) == (10, -9)
    assert found["hist"].bucket_size == 10


def test_plain_counters_that_are_not_zero(stats_fd: int) -> None:
    assert read_stats(stats_fd) == {
        "exits": 12,
        "halt_wait_ns": 5000,
        "guest_mode": 1,
    }


def test_query_stats_of_vcpus(stats_fd: int) -> None:
    arguments: dict[str, Any] = {"target": "vcpu", "vcpus": ["/vcpu/1"]}
    (result,) = query_stats(arguments, vm=None, vcpus=[stats_fd, stats_fd])
    assert (result["provider"], result["qom-path"]) == ("kvm", "/vcpu/1")
    values = {stat["name"]: stat["value"] for stat in result["stats"]}
    assert values["pages_4k"] == 0
    assert values["guest_mode"] is True
    assert values["halt_poll_success_hist"] == [1, 2, 4]
    assert values["max_mmu_rmap_size"] == 9


def test_query_stats_by_name(stats_fd: int) -> None:
    asked = [{"provider": "kvm", "names": ["exits"]}]
    assert query_stats(
        {"target": "vm", "providers": asked}, vm=stats_fd, vcpus=[]
    ) == [{"provider": "kvm", "stats": [{"name": "exits", "value": 12}]}]
    nothing: dict[str, Any] = {"target": "vm", "providers": []}
    assert query_stats(nothing, vm=stats_fd, vcpus=[]) == []


def test_a_kvm_without_statistics_has_none() -> None:
    for target in ("vm", "vcpu", "cryptodev"):
        assert query_stats({"target": target}, vm=None, vcpus=[]) == []
    assert query_schemas(None, vm=None, vcpus=[]) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": "x"}, "does not accept 'x'"),
        ({"target": "vm", "vcpus": []}, "'vcpus' is unexpected"),
        ({"target": "vm", "providers": ["kvm"]}, "does not accept that"),
        (
            {"target": "vm", "providers": [{"provider": "kvm", "names": 1}]},
            "expected: array",
        ),
    ],
)
def test_questions_that_make_no_sense(
    arguments: dict[str, Any], says: str, stats_fd: int
) -> None:
    with pytest.raises(QmpError, match=says):
        query_stats(arguments, vm=stats_fd, vcpus=[])


def test_schemas(stats_fd: int) -> None:
    schemas = query_schemas("kvm", vm=stats_fd, vcpus=[stats_fd, stats_fd])
    assert [schema["target"] for schema in schemas] == ["vm", "vcpu"]
    by_name = {stat["name"]: stat for stat in schemas[1]["stats"]}
    assert by_name["halt_wait_ns"] == {
        "name": "halt_wait_ns",
        "type": "cumulative",
        "unit": "seconds",
        "base": 10,
        "exponent": -9,
    }
    assert by_name["hist"]["bucket-size"] == 10
    assert by_name["exits"] == {
        "name": "exits",
        "type": "cumulative",
        "exponent": 0,
    }
    with pytest.raises(QmpError, match="does not accept 'tcg'"):
        query_schemas("tcg", vm=stats_fd, vcpus=[])
