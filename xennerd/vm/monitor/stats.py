# SPDX-License-Identifier: GPL-2.0-or-later
"""query-stats and query-stats-schemas: KVM's statistics in QMP's form.

QEMU's qapi/stats.json has the form. Here only the provider "kvm" is there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xennerd.qmp.request import QmpError
from xennerd.vm.kvm.stats import (
    Descriptor,
    Kind,
    Unit,
    read_descriptors,
    read_values,
)

_KINDS = {
    Kind.CUMULATIVE: "cumulative",
    Kind.INSTANT: "instant",
    Kind.PEAK: "peak",
    Kind.LINEAR_HISTOGRAM: "linear-histogram",
    Kind.LOG_HISTOGRAM: "log2-histogram",
}
_PROVIDER = "kvm"
_TARGETS = ("vm", "vcpu")


def query_stats(
    arguments: Mapping[str, Any], *, vm: int | None, vcpus: Sequence[int]
) -> list[dict[str, Any]]:
    """StatsResult of each object asked for, from its statistics descriptor.

    An empty list where this KVM has none.
    """
    target = _target(arguments)
    names = _wanted_names(arguments.get("providers"))
    if names == set():
        return []
    if target == "vm":
        return [_result(fd, names) for fd in (vm,) if fd is not None]
    paths = arguments.get("vcpus")
    return [
        {**_result(fd, names), "qom-path": vcpu_path(number)}
        for number, fd in enumerate(vcpus)
        if paths is None or vcpu_path(number) in paths
    ]


def query_schemas(
    provider: str | None, *, vm: int | None, vcpus: Sequence[int]
) -> list[dict[str, Any]]:
    """StatsSchema of each target that there is."""
    if provider not in (None, _PROVIDER):
        raise QmpError(f"Parameter 'provider' does not accept '{provider}'")
    found = zip(_TARGETS, ([vm], vcpus[:1]), strict=True)
    return [
        {
            "provider": _PROVIDER,
            "target": target,
            "stats": [_schema(d) for d in read_descriptors(fd)],
        }
        for target, fds in found
        for fd in fds
        if fd is not None
    ]


def vcpu_path(number: int) -> str:
    """A vCPU's name in the monitor, "qom-path"."""
    return f"/vcpu/{number}"


def _target(arguments: Mapping[str, Any]) -> str:
    target = str(arguments["target"])
    if target not in (*_TARGETS, "cryptodev"):
        raise QmpError(f"Parameter 'target' does not accept '{target}'")
    if "vcpus" in arguments and target != "vcpu":
        raise QmpError("Parameter 'vcpus' is unexpected")
    return target


def _wanted_names(providers: list[Any] | None) -> set[str] | None:
    """Names that are asked for; None: all of them."""
    if providers is None:
        return None
    wanted: set[str] = set()
    for entry in providers:
        if not isinstance(entry, dict) or entry.get("provider") != _PROVIDER:
            raise QmpError("Parameter 'providers' does not accept that")
        if "names" not in entry:
            return None
        wanted.update(map(str, _listed(entry["names"])))
    return wanted


def _listed(names: object) -> Iterable[object]:
    if not isinstance(names, list):
        raise QmpError("Invalid parameter type for 'names', expected: array")
    return names


def _result(stats_fd: int, names: set[str] | None) -> dict[str, Any]:
    return {
        "provider": _PROVIDER,
        "stats": list(_stats(stats_fd, names)),
    }


def _stats(stats_fd: int, names: set[str] | None) -> Iterator[dict[str, Any]]:
    descriptors = {d.name: d for d in read_descriptors(stats_fd)}
    values = read_values(stats_fd, tuple(descriptors.values()))
    for name, numbers in values.items():
        if names is not None and name not in names:
            continue
        value: Any = list(numbers)
        if descriptors[name].kind <= Kind.PEAK and len(numbers) == 1:
            value = numbers[0]
            if descriptors[name].unit is Unit.BOOLEAN:
                value = bool(value)
        yield {"name": name, "value": value}


def _schema(descriptor: Descriptor) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "name": descriptor.name,
        "type": _KINDS[descriptor.kind],
        "exponent": descriptor.exponent,
    }
    if descriptor.unit is not Unit.NONE:
        schema["unit"] = descriptor.unit.name.lower()
    if descriptor.exponent:
        schema["base"] = descriptor.base
    if descriptor.kind is Kind.LINEAR_HISTOGRAM:
        schema["bucket-size"] = descriptor.bucket_size
    return schema
