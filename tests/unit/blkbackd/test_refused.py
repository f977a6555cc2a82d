# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that is refused for its nodes, and what it takes to try again."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from blkbackd.vbd import Vbd
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import XenbusState

_PATH = "backend/vbd/7/51712"


class _Store:
    """Nodes; what begins with no slash can be read and not be watched. `then`
    runs at the first watch that is refused: somebody writes at that moment."""

    def __init__(self, nodes: dict[str, str]) -> None:
        self.nodes = nodes
        self.states: list[int] = []
        self.then: Callable[[], None] = lambda: None

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def watch(self, path: str, _token: str) -> None:
        if not path.startswith("/"):
            then, self.then = self.then, lambda: None
            then()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def unwatch(self, path: str, token: str) -> None: ...

    def write(self, path: str, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self.nodes[f"{path}/{name}"] = str(value)

    def write_existing(self, path: str, value: object) -> None:
        self.nodes[path] = str(value)
        self.states.append(int(str(value)))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Vbd, _Store]]:
    """One that can be served, but for its frontend's path."""
    file = tmp_path / "disk"
    file.write_bytes(bytes(4096))
    store = _Store(
        {
            f"{_PATH}/state": str(int(XenbusState.INITIALISING)),
            f"{_PATH}/frontend": "no path!",
            f"{_PATH}/mode": "w",
            f"{_PATH}/online": "1",
            f"{_PATH}/params": str(file),
            "/f/state": str(int(XenbusState.INITIALISING)),
        }
    )
    vbd = Vbd(cast("Store", store), _PATH, Domid(7), lambda: None)
    yield vbd, store
    vbd.close()


def test_no_path_is_refused_once(disk: tuple[Vbd, _Store]) -> None:
    """Not offered to it first, as if all were well."""
    vbd, store = disk
    for _ in range(2):
        assert vbd.step()
        assert store.states == [XenbusState.CLOSED]


def test_one_that_is_written_meanwhile_counts(
    disk: tuple[Vbd, _Store],
) -> None:
    vbd, store = disk
    store.then = lambda: store.nodes.update({f"{_PATH}/frontend": "/f"})
    assert vbd.step()
    assert store.states[-1] == XenbusState.INIT_WAIT
