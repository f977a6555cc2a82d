# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a listening socket is."""

import errno
import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from xenner.errors import HostError
from xenner.listening import listen_at, open_listener


def test_a_socket_is_its_groups(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    group = grp.getgrgid(os.getegid()).gr_name
    kind = socket.SOCK_STREAM
    with open_listener(path, kind, mode=0o660, backlog=1, group=group):
        assert path.group() == group
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with (
        pytest.raises(HostError, match="there is no group no-such"),
        open_listener(
            path, socket.SOCK_STREAM, mode=0o660, backlog=1, group="no-such"
        ),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_path_without_a_name() -> None:
    for path in (Path("/"), Path()):
        with pytest.raises(OSError, match="Is a directory") as got:
            listen_at(path, backlog=1)
        assert got.value.errno == errno.EISDIR
