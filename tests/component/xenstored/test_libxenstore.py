# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner.libxenstore, which backends and xennerd follow the store by."""

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import PATIENCE_S, StoreProcess
from xenner.errors import HostError
from xenner.libxenstore import Store, WatchEvent


@pytest.fixture
def client(
    store: StoreProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    monkeypatch.setenv("XENSTORED_PATH", str(store.socket_path))
    with Store() as client:
        yield client


def _is_ready(client: Store, timeout_s: float) -> bool:
    ready, _, _ = select.select([client], [], [], timeout_s)
    return bool(ready)


def test_events_come_one_by_one(store: StoreProcess, client: Store) -> None:
    client.watch("/a", "token")
    assert _is_ready(client, PATIENCE_S)
    assert client.next_event() == WatchEvent("/a", "token")
    assert client.next_event() is None
    assert not _is_ready(client, 0)
    store.run("xenstore-write", "/a/b", "1")
    assert _is_ready(client, PATIENCE_S)
    assert client.next_event() == WatchEvent("/a/b", "token")


def test_what_waits_for_events_hears_of_the_end(
    store: StoreProcess, client: Store
) -> None:
    client.watch("/a", "token")
    assert _is_ready(client, PATIENCE_S)
    assert client.next_event() is not None
    store.kill()
    assert _is_ready(client, PATIENCE_S)
    with pytest.raises(HostError, match="xenstore has ended"):
        client.next_event()


def test_whoever_asks_hears_of_the_end(
    store: StoreProcess, client: Store
) -> None:
    client.write("/a", {"b": 1})
    store.kill()
    with pytest.raises(HostError, match="xenstore has ended"):
        client.read("/a/b")
    with pytest.raises(HostError, match="xenstore has ended"):
        client.write("/a", {"b": 2})


def test_another_store_is_another_connection(
    store: StoreProcess, client: Store
) -> None:
    store.kill()
    store.start()
    with pytest.raises(HostError, match="xenstore has ended"):
        client.children("/")
    with Store() as again:
        assert "local" in again.children("/")


def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"no xenstore: .*XENSTORED_PATH"):
        Store()


def test_a_refusal_is_not_the_end(client: Store) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        client.read("/a//b")
    assert client.read("/a/b") is None
