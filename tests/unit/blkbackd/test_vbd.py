# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a disk is not served."""

import errno
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from blkbackd.vbd import Vbd, attach_error
from blkbackd.volume import Volume
from xenner.errors import GuestError, HostError, ShortageError
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import XenbusState


def _error(number: int) -> GuestError | HostError:
    return attach_error(Domid(7), OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESRCH])
def test_the_frontends(number: int) -> None:
    error = _error(number)
    assert isinstance(error, GuestError)
    assert str(error).startswith("domain 7: its ring cannot be had: ")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_this_hosts(number: int) -> None:
    """That of fs.aio-max-nr is EAGAIN."""
    error = _error(number)
    assert isinstance(error, ShortageError)
    assert "aio-max-nr" in error.hint


def test_a_shortage_is_waited_for(tmp_path: Path) -> None:
    """Also by a frontend that connects: it is no end of its disk."""
    nodes, path = _nodes(tmp_path), "backend/vbd/7/51712"
    woken: list[None] = []
    vbd = Vbd(
        cast("Store", _Store(nodes)),
        path,
        Domid(7),
        partial(woken.append, None),
    )

    class AttachedError(Exception):
        """It came so far."""

    def attach(*_: object) -> None:
        raise (
            OSError(attempts.pop(0), "none left") if attempts else AttachedError
        )

    attempts = [errno.EMFILE, errno.EAGAIN]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XENNER_RUNTIME_DIR", str(tmp_path))
        patch.setattr("blkbackd.vbd.Engine", _NoEngine)
        patch.setattr(_NoEngine, "attach", attach)
        for left in (1, 0):
            assert vbd.step()
            assert len(attempts) == left
            assert "tried again" in nodes[f"error/{path}/error"]
            assert nodes[f"{path}/state"] == str(int(XenbusState.INIT_WAIT))
            # Not before somebody says so.
            assert vbd.step()
            assert len(attempts) == left
            vbd.try_again()
        assert len(woken) == 2
        with pytest.raises(AttachedError):
            vbd.step()
    vbd.close()


class _NoEngine:
    def __init__(self, _on_event: object) -> None:
        pass

    def attach(self, *_: object) -> None:
        """One that a test says."""

    def detach(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _nodes(tmp_path: Path) -> dict[str, str]:
    """A disk whose frontend is about to connect."""
    (tmp_path / "disk").write_bytes(bytes(4096))
    return {
        "backend/vbd/7/51712/state": "2",
        "backend/vbd/7/51712/frontend": "/f",
        "backend/vbd/7/51712/mode": "w",
        "backend/vbd/7/51712/online": "1",
        "backend/vbd/7/51712/params": str(tmp_path / "disk"),
        "/f/state": "3",
        "/f/ring-ref": "8",
        "/f/event-channel": "3",
    }


def test_a_volume_that_has_gone(tmp_path: Path) -> None:
    """Between its being opened and the frontend's connecting."""
    nodes = _nodes(tmp_path)
    store = _Store(nodes)
    path = "backend/vbd/7/51712"
    vbd = Vbd(cast("Store", store), path, Domid(7), lambda: None)

    def vanish(_volume: Volume) -> int:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Volume, "nr_sectors_now", vanish)
        assert vbd.step()
    assert nodes[f"error/{path}/error"] == f"{tmp_path}/disk: No such device"
    assert nodes[f"{path}/state"] == str(int(XenbusState.CLOSING))
    vbd.close()


class _Store:
    def __init__(self, nodes: dict[str, str]) -> None:
        self.nodes = nodes

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def write(self, base: str, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self.nodes[f"{base}/{name}"] = str(value)

    def write_existing(self, path: str, value: object) -> bool:
        self.nodes[path] = str(value)
        return True

    def watch(self, path: str, token: str) -> None:
        pass

    def unwatch(self, path: str, token: str) -> None:
        pass
