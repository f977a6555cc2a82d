# SPDX-License-Identifier: GPL-2.0-or-later
"""Who a client is, by what the kernel says of it."""

import os
import struct

import pytest

from evtchnd.domains import HOST, NOBODY, Peer, Role, Trusted, identify

OTHERS_UID = os.geteuid() + 1000
GROUP = 4711
IN_IT = struct.pack("III", 4, GROUP, 5)


def whose(
    uid: int, gid: int = 7, groups: bytes = b"", trusted: Trusted = NOBODY
) -> Peer | None:
    return identify(
        struct.pack("iII", 1, uid, gid), groups, {}, trusted=trusted
    )


def test_root_and_we_are_launchers() -> None:
    assert whose(0) == whose(os.geteuid()) == Peer(Role.LAUNCHER, HOST)


def test_nobody_else_is_served_unless_named() -> None:
    assert whose(OTHERS_UID, GROUP, IN_IT) is None
    trusted = Trusted(uids=frozenset({OTHERS_UID}))
    assert whose(OTHERS_UID, trusted=trusted) == Peer(Role.HOST, HOST)


def test_a_user_whose_processes_launch_themselves() -> None:
    trusted = Trusted(launcher_uids=frozenset({OTHERS_UID}))
    peer = whose(OTHERS_UID, trusted=trusted)
    assert peer == Peer(Role.LAUNCHER, HOST, only_pid=1)
    assert whose(OTHERS_UID + 1, trusted=trusted) is None


@pytest.mark.parametrize(("gid", "groups"), [(GROUP, b""), (7, IN_IT)])
def test_a_group_may_be_the_first_or_one_of_many(
    gid: int, groups: bytes
) -> None:
    trusted = Trusted(gids=frozenset({GROUP}))
    assert whose(OTHERS_UID, gid, groups, trusted) == Peer(Role.HOST, HOST)
    assert whose(OTHERS_UID, 7, struct.pack("I", 8), trusted) is None
