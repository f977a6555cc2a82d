# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab container says that it lacks is what it lacks."""

import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab.container import lacks

pytestmark = pytest.mark.environments("container")


def has_controller(name: str) -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text()
    return name in controllers.split()


def can_raise_limits() -> bool:
    """CAP_SYS_RESOURCE is what a hard limit cannot be raised without."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
    except ValueError:
        return False
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    return True


PROBES: Mapping[str, Callable[[], bool]] = {
    "kernel modules": Path("/lib/modules", os.uname().release).exists,
    "device mapper": Path("/dev/mapper/control").exists,
    "loop devices": Path("/dev/loop-control").exists,
    "/dev/kvm": Path("/dev/kvm").exists,
    "/dev/net/tun": Path("/dev/net/tun").exists,
    "memory controller": lambda: has_controller("memory"),
    "cpu controller": lambda: has_controller("cpu"),
    "pids controller": lambda: has_controller("pids"),
    "io controller": lambda: has_controller("io"),
    "CAP_SYS_RESOURCE": can_raise_limits,
}


def test_what_it_lacks() -> None:
    assert set(lacks()) == {name for name, has in PROBES.items() if not has()}
