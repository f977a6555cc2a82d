# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests make sense where, and how much longer things take there."""

import fcntl
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import PurePath


class Environment(StrEnum):
    """Where tests run. XENNER_PLACE names it; unset is the host."""

    HOST = "host"  # this machine as it is
    CONTAINER = "container"  # systemd in namespaces of this machine
    MACHINE = "machine"  # emulated: Debian with systemd, SVM, LVM, cgroups


# The floors in the order in which they run, and where each has a meaning.
FLOORS: Mapping[str, frozenset[Environment]] = {
    "style": frozenset({Environment.HOST}),
    "unit": frozenset({Environment.HOST}),
    "native": frozenset({Environment.HOST}),
    "component": frozenset({Environment.HOST}),
    "kvm": frozenset({Environment.HOST, Environment.MACHINE}),
    "system": frozenset({Environment.CONTAINER, Environment.MACHINE}),
}
_KVM_GET_API_VERSION = 0xAE00  # linux/kvm.h
# The others must do without.
_WITH_KVM = {"component", "kvm", "system"}
# For what takes a second or two on the host. In the machine every instruction
# is emulated: Python starts 10 to 15 times slower, processes 50 times.
_LIMIT_FACTORS = {
    Environment.HOST: 1,
    Environment.CONTAINER: 2,
    Environment.MACHINE: 10,
}


def current_environment(environ: Mapping[str, str] = os.environ) -> Environment:
    """Where this process runs. ValueError if XENNER_PLACE names no
    environment."""
    return Environment(environ.get("XENNER_PLACE") or Environment.HOST)


def limit_s(seconds: float, environment: Environment | None = None) -> float:
    """How long to wait, here or in `environment`, for what the host does within
    `seconds`. It is for what hangs: no test asserts how long things take."""
    return seconds * _LIMIT_FACTORS[environment or current_environment()]


def floor_of(path: PurePath) -> str | None:
    """The floor of a file given relative to tests/; None if it has none."""
    return path.parts[0] if path.parts and path.parts[0] in FLOORS else None


def environments_of(
    floor: str,
    *,
    marks: Iterable[tuple[str, ...]] = (),
    needs_kvm: bool = False,
    host_kvm: bool = True,
) -> frozenset[Environment]:
    """Where a test runs.

    Each mark narrows the floor's environments to those it names. Where the host
    has no usable /dev/kvm, and so its container has none either, the machine
    stands in for both whatever the marks say of it: they leave out what takes
    too long to run it twice.

    ValueError if a mark names an environment in which the floor never runs, or
    the floor is one that must do without /dev/kvm.
    """
    environments = FLOORS[floor]
    if needs_kvm and floor not in _WITH_KVM:
        raise ValueError(f"no {floor} test needs /dev/kvm")
    for names in marks:
        named = frozenset(map(Environment, names))
        if not named or not named <= FLOORS[floor]:
            raise ValueError(
                f"environments{names!r}: {floor} tests run in "
                + ", ".join(sorted(FLOORS[floor]))
            )
        environments &= named
    if needs_kvm and not host_kvm and environments:
        return frozenset({Environment.MACHINE})
    return environments


def floors_in(environment: Environment, *, host_kvm: bool) -> list[str]:
    """The floors that may have tests for `environment`, in their order."""
    return [
        floor
        for floor in FLOORS
        if environment in environments_of(floor)
        or (
            floor in _WITH_KVM
            and environment
            in environments_of(floor, needs_kvm=True, host_kvm=host_kvm)
        )
    ]


def kvm_refusal() -> str:
    """Why /dev/kvm cannot be used here; empty if it can."""
    try:
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    try:
        fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except OSError as error:
        return f"/dev/kvm is no KVM: {error.strerror}"
    finally:
        os.close(fd)
    return ""
