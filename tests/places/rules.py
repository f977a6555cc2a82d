# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests make sense where, and how much longer things take there."""

import fcntl
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import PurePath


class Place(StrEnum):
    """Where tests run. XENNER_PLACE names it; unset is the host."""

    HOST = "host"  # this machine as it is
    CONTAINER = "container"  # systemd in namespaces of this machine
    MACHINE = "machine"  # emulated: Debian with systemd, SVM, LVM, cgroups


# The floors in the order in which they run, and where each has a meaning.
FLOORS: Mapping[str, frozenset[Place]] = {
    "style": frozenset({Place.HOST}),
    "unit": frozenset({Place.HOST}),
    "native": frozenset({Place.HOST}),
    "component": frozenset({Place.HOST}),
    "kvm": frozenset({Place.HOST, Place.MACHINE}),
    "system": frozenset({Place.CONTAINER, Place.MACHINE}),
}
_KVM_GET_API_VERSION = 0xAE00  # linux/kvm.h
# The others must do without.
_WITH_KVM = {"component", "kvm", "system"}
# For what takes a second or two on the host. In the machine every instruction
# is emulated: Python starts 10 to 15 times slower, processes 50 times.
_LIMIT_FACTORS = {Place.HOST: 1, Place.CONTAINER: 2, Place.MACHINE: 10}


def current_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Where this process runs. ValueError if XENNER_PLACE names no place."""
    return Place(environment.get("XENNER_PLACE") or Place.HOST)


def limit_s(seconds: float, place: Place | None = None) -> float:
    """How long to wait, here or in `place`, for what the host does within
    `seconds`. It is for what hangs: no test asserts how long things take."""
    return seconds * _LIMIT_FACTORS[place or current_place()]


def floor_of(path: PurePath) -> str | None:
    """The floor of a file given relative to tests/; None if it has none."""
    return path.parts[0] if path.parts and path.parts[0] in FLOORS else None


def places_of(
    floor: str,
    *,
    marks: Iterable[tuple[str, ...]] = (),
    needs_kvm: bool = False,
    host_kvm: bool = True,
) -> frozenset[Place]:
    """Where a test runs.

    Each mark narrows the floor's places to those it names. Where the host has
    no usable /dev/kvm, and so its container has none either, the machine
    stands in for both whatever the marks say of it: they leave out what takes
    too long to run it twice.

    ValueError if a mark names a place in which the floor never runs, or the
    floor is one that must do without /dev/kvm.
    """
    places = FLOORS[floor]
    if needs_kvm and floor not in _WITH_KVM:
        raise ValueError(f"no {floor} test needs /dev/kvm")
    for names in marks:
        named = frozenset(map(Place, names))
        if not named or not named <= FLOORS[floor]:
            raise ValueError(
                f"places{names!r}: {floor} tests run in "
                + ", ".join(sorted(FLOORS[floor]))
            )
        places &= named
    if needs_kvm and not host_kvm and places:
        return frozenset({Place.MACHINE})
    return places


def floors_in(place: Place, *, host_kvm: bool) -> list[str]:
    """The floors that may have tests for `place`, in their order."""
    return [
        floor
        for floor in FLOORS
        if place in places_of(floor)
        or (
            floor in _WITH_KVM
            and place in places_of(floor, needs_kvm=True, host_kvm=host_kvm)
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
