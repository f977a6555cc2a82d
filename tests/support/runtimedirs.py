# SPDX-License-Identifier: GPL-2.0-or-later
"""A host whose /run is no tmpfs, in a mount namespace, for tests of where
programs look for the runtime directory."""

import os
from collections.abc import Sequence

import pytest

ATTACKER = 65534
"""A user whose /dev/shm/xenner it may be."""

_MOUNT = (
    "mount -t ramfs xenner /run && mount -t tmpfs xenner /dev/shm && "
    "chmod 1777 /dev/shm && "
)
MAKE = {
    "ours": "mkdir -m 755 /dev/shm/xenner",
    "the group's": "mkdir -m 2775 /dev/shm/xenner",
    "absent": "true",
    "another's": "mkdir -m 755 /dev/shm/xenner && "
    f"chown {ATTACKER} /dev/shm/xenner",
    "everybody's": "mkdir -m 1777 /dev/shm/xenner",
    "a link": "mkdir -m 755 /dev/shm/own && ln -s own /dev/shm/xenner",
}
"""Ways to have it there."""


def without_run(state: str, words: Sequence[str]) -> list[str]:
    """The command in such a host, with /dev/shm/xenner as `state` says."""
    if os.geteuid() != 0:
        pytest.skip("root: mounts file systems")
    script = f'{_MOUNT}{MAKE[state]} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *words]
