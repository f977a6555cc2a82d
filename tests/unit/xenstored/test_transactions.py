# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions: what they see, and exactly what they conflict with."""

from collections.abc import Callable

import pytest

from tests.support.storeclient import Client, refused
from xenstored.store import Store

Step = Callable[[Client, int], object]


def write(path: bytes, value: bytes = b"new") -> Step:
    return lambda client, tx: client.write(path, value, tx=tx)


def read(path: bytes) -> Step:
    return lambda client, tx: client.read(path, tx=tx)


def mkdir(path: bytes) -> Step:
    return lambda client, tx: client.mkdir(path, tx=tx)


def rm(path: bytes) -> Step:
    return lambda client, tx: client.rm(path, tx=tx)


def directory(path: bytes) -> Step:
    return lambda client, tx: client.directory(path, tx=tx)


def perms(path: bytes) -> Step:
    return lambda client, tx: client.set_perms(path, b"b0", b"r9", tx=tx)


def get_perms(path: bytes) -> Step:
    return lambda client, tx: client.get_perms(path, tx=tx)


def missing(path: bytes) -> Step:
    return lambda client, tx: refused(
        "ENOENT", lambda: client.read(path, tx=tx)
    )


CONFLICTS = {
    "both write it": (write(b"/a/b"), write(b"/a/b")),
    "read is written": (read(b"/a/b"), write(b"/a/b")),
    "read is removed": (read(b"/a/b"), rm(b"/a/b")),
    "read goes with its parent": (read(b"/a/b"), rm(b"/a")),
    "missing is made": (missing(b"/a/x"), write(b"/a/x")),
    "missing is made with a child": (missing(b"/a/x"), write(b"/a/x/y")),
    "list gets longer": (directory(b"/a"), mkdir(b"/a/x")),
    "list gets shorter": (directory(b"/a"), rm(b"/a/b")),
    "both make it": (write(b"/a/x"), write(b"/a/x")),
    "both make the parent": (write(b"/a/x/1"), write(b"/a/x/2")),
    "maker's parent is gone": (write(b"/a/b/x"), rm(b"/a")),
    "maker's parent has new perms": (write(b"/a/b/x"), perms(b"/a/b")),
    "perms are changed": (get_perms(b"/a/b"), perms(b"/a/b")),
    "both change perms": (perms(b"/a/b"), perms(b"/a/b")),
    "removed is written": (rm(b"/a/b"), write(b"/a/b")),
    "below the removed is written": (rm(b"/a"), write(b"/a/b")),
    "below the removed is made": (rm(b"/a"), write(b"/a/b/c/d")),
    "below the removed perms change": (rm(b"/a"), perms(b"/a/b")),
    "both remove it": (rm(b"/a/b"), rm(b"/a/b")),
    "mkdir of what is gone": (mkdir(b"/a/b"), rm(b"/a/b")),
}

PEACE = {
    "siblings are made": (write(b"/a/x"), write(b"/a/y")),
    "siblings are written": (write(b"/a/b"), write(b"/a/c")),
    "sibling is removed": (write(b"/a/b"), rm(b"/a/c")),
    "reader's parent is written": (read(b"/a/b"), write(b"/a")),
    "maker's parent is written": (write(b"/a/x"), write(b"/a")),
    "list, and one of it is written": (directory(b"/a"), write(b"/a/b")),
    "list, and its own value is written": (directory(b"/a"), write(b"/a")),
    "value, and the list is changed": (read(b"/a"), mkdir(b"/a/x")),
    "value, and perms are changed": (read(b"/a/b"), perms(b"/a/b")),
    "perms, and the value is written": (get_perms(b"/a/b"), write(b"/a/b")),
    "each writes its own": (write(b"/a/b"), perms(b"/a/b")),
    "both only read": (read(b"/a/b"), read(b"/a/b")),
    "nearby is removed": (rm(b"/a/b"), rm(b"/a/c")),
    "mkdir of what is written": (mkdir(b"/a/b"), write(b"/a/b")),
}


@pytest.fixture
def planted(dom0: Client) -> Client:
    dom0.write(b"/a/b", b"old")
    dom0.write(b"/a/c", b"old")
    return dom0


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflict(planted: Client, store: Store, name: str) -> None:
    inside, outside = CONFLICTS[name]
    tx = planted.start()
    inside(planted, tx)
    outside(Client(store), 0)
    expected = {path: planted.directory(path) for path in (b"/", b"/tool")}
    refused("EAGAIN", lambda: planted.end(tx))
    assert {path: planted.directory(path) for path in expected} == expected
    refused("ENOENT", lambda: planted.read(b"/", tx=tx))


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflict_between_transactions(
    planted: Client, store: Store, name: str
) -> None:
    inside, outside = CONFLICTS[name]
    other = Client(store)
    tx, winner = planted.start(), other.start()
    inside(planted, tx)
    outside(other, winner)
    other.end(winner)
    refused("EAGAIN", lambda: planted.end(tx))


@pytest.mark.parametrize("name", PEACE)
def test_no_conflict(planted: Client, store: Store, name: str) -> None:
    inside, outside = PEACE[name]
    other = Client(store)
    tx, first = planted.start(), other.start()
    inside(planted, tx)
    outside(other, first)
    other.end(first)
    planted.end(tx)


def test_both_outcomes_are_there(planted: Client, store: Store) -> None:
    tx = planted.start()
    planted.write(b"/a/b", b"inside", tx=tx)
    planted.write(b"/a/x", b"inside", tx=tx)
    planted.rm(b"/a/c", tx=tx)
    other = Client(store)
    other.set_perms(b"/a/b", b"b0", b"r9")
    other.write(b"/a/y", b"outside")
    planted.end(tx)
    assert planted.directory(b"/a") == [b"b", b"y", b"x"]
    assert planted.read(b"/a/b") == b"inside"
    assert planted.get_perms(b"/a/b") == [b"b0", b"r9"]
    assert store.tree.nr_nodes == {0: 9}


def test_snapshot_is_of_the_start(planted: Client, store: Store) -> None:
    tx = planted.start()
    Client(store).write(b"/a/b", b"later")
    Client(store).rm(b"/a/c")
    assert planted.read(b"/a/b", tx=tx) == b"old"
    assert planted.directory(b"/a", tx=tx) == [b"b", b"c"]
    planted.end(tx, commit=False)
    assert planted.read(b"/a/b") == b"later"


def test_own_writes_are_seen_inside_alone(planted: Client) -> None:
    tx = planted.start()
    planted.write(b"/a/b", b"mine", tx=tx)
    planted.rm(b"/a/c", tx=tx)
    planted.write(b"/a/c/new", b"", tx=tx)
    assert planted.read(b"/a/b", tx=tx) == b"mine"
    assert planted.directory(b"/a/c", tx=tx) == [b"new"]
    assert planted.read(b"/a/b") == b"old"
    assert planted.directory(b"/a/c") == []
    planted.end(tx)
    assert planted.directory(b"/a/c") == [b"new"]
    assert planted.read(b"/a/c") == b""


def test_removed_and_made_again_has_nothing_of_before(
    planted: Client, store: Store
) -> None:
    tx = planted.start()
    planted.rm(b"/a", tx=tx)
    planted.write(b"/a/new", b"1", tx=tx)
    # So that the changes must be brought into another tree.
    Client(store).write(b"/elsewhere", b"")
    planted.end(tx)
    assert planted.directory(b"/a") == [b"new"]


def test_guest_conflicts_with_a_change_of_its_rights(
    dom0: Client, guest: Client
) -> None:
    dom0.write(b"/shared", b"1")
    dom0.set_perms(b"/shared", b"n0", b"r3")
    tx = guest.start()
    assert guest.read(b"/shared", tx=tx) == b"1"
    dom0.set_perms(b"/shared", b"n0")
    refused("EAGAIN", lambda: guest.end(tx))


def test_nested_is_refused(dom0: Client) -> None:
    tx = dom0.start()
    refused("EBUSY", lambda: dom0.ask_raw(6, b"\0", tx=tx))


def test_transactions_of_another_client_do_not_exist(
    dom0: Client, store: Store
) -> None:
    tx = dom0.start()
    refused("ENOENT", lambda: Client(store).read(b"/", tx=tx))
