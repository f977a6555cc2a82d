# SPDX-License-Identifier: GPL-2.0-or-later
"""No guest takes more than its share, and dom0 is not limited."""

import socket
import threading
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.storeclient import Client, RefusedError, parsed, refused
from xenstored.loop import StoreLoop
from xenstored.store import Store
from xenstored.wire import MessageType as Is
from xenstored.wire import message

HOME = b"/local/domain/3/"


def test_nodes(store: Store, dom0: Client, guest: Client) -> None:
    store.quotas.nodes = 4
    # Its directory is its own as well.
    guest.mkdir(b"a/b/c")
    refused("ENOSPC", lambda: guest.mkdir(b"d"))
    refused("ENOSPC", lambda: guest.mkdir(b"a/b/c/d"))
    guest.rm(b"a/b/c")
    refused("ENOSPC", lambda: guest.mkdir(b"a/b/d/e"))
    guest.mkdir(b"a/b/d")
    dom0.mkdir(HOME + b"e")
    assert store.tree.nr_nodes[3] == 5


def test_nodes_in_a_transaction(
    store: Store, dom0: Client, guest: Client
) -> None:
    store.quotas.nodes = 4
    tx, other = guest.start(), guest.start()
    for name in (b"a", b"b", b"c"):
        guest.mkdir(name, tx=tx)
        guest.mkdir(name + name, tx=other)
    refused("ENOSPC", lambda: guest.mkdir(b"d", tx=tx))
    guest.end(tx)
    refused("ENOSPC", lambda: guest.end(other))
    assert store.tree.nr_nodes[3] == 4


def test_node_size(store: Store, dom0: Client, guest: Client) -> None:
    store.quotas.node_size = 100
    # Two entries of permissions count for 16 bytes.
    guest.write(b"x", bytes(84))
    refused("ENOSPC", lambda: guest.write(b"x", bytes(85)))
    refused("ENOSPC", lambda: guest.write(b"y", bytes(85)))
    dom0.write(HOME + b"x", bytes(2000))
    refused("ENOSPC", lambda: guest.mkdir(b"n" * 90))


def test_permissions(store: Store, dom0: Client, guest: Client) -> None:
    guest.write(b"x", b"")
    many = [b"r%d" % domid for domid in range(10, 14)]
    guest.set_perms(b"x", b"n3", *many)
    refused("ENOSPC", lambda: guest.set_perms(b"x", b"n3", *many, b"r20"))
    dom0.set_perms(HOME + b"x", b"n3", *many, b"r20")


def test_watches(store: Store, dom0: Client, guest: Client) -> None:
    store.quotas.watches = 2
    guest.watch(b"a", b"1")
    guest.watch(b"a", b"2")
    refused("EEXIST", lambda: guest.watch(b"a", b"2"))
    refused("ENOSPC", lambda: guest.watch(b"a", b"3"))
    guest.ask(Is.UNWATCH, b"a", b"1")
    guest.watch(b"a", b"3")
    for number in range(5):
        dom0.watch(b"/a", b"%d" % number)


def test_transactions(store: Store, dom0: Client, guest: Client) -> None:
    store.quotas.transactions = 2
    guest.start()
    tx = guest.start()
    refused("ENOSPC", guest.start)
    guest.end(tx, commit=False)
    guest.start()
    for _ in range(5):
        dom0.start()


def test_nodes_of_one_transaction(store: Store, guest: Client) -> None:
    store.quotas.transaction_nodes = 5
    tx = guest.start()
    for name in (b"a", b"b"):
        guest.write(name, b"", tx=tx)
    refused("ENOSPC", lambda: guest.write(b"c/d/e/f", b"", tx=tx))
    for number in range(100):
        with pytest.raises(RefusedError, match=r"ENOENT|ENOSPC"):
            guest.read(b"r%d" % number, tx=tx)
    assert len(guest.connection.transactions[tx].reads) == 5


def test_guest_that_takes_no_replies_is_not_served(
    store: Store, guest: Client
) -> None:
    connection = guest.connection
    request = message(Is.GET_DOMAIN_PATH, 0, 0, b"3\0")
    assert connection.receive(request * 30)
    waiting = parsed(b"".join(connection.take_output()))
    assert len(waiting) == store.quotas.outstanding
    assert not connection.receive(b"")
    assert len(parsed(b"".join(connection.take_output()))) == 10


def test_events_not_taken_do_not_pile_up(
    store: Store, dom0: Client, guest: Client
) -> None:
    store.quotas.event_bytes = 1000
    guest.watch(b"a", b"t1")
    guest.watch(b"b", b"t2")
    guest.events()
    for number in range(1000):
        dom0.write(HOME + b"a/%d" % number, b"")
    dom0.write(HOME + b"b/c", b"")
    assert guest.connection.output_bytes < 1200
    events = guest.events()
    # Nothing is lost: a watch with more to tell has an event at its path.
    assert events[0] == (b"a/0", b"t1")
    assert events[-2:] == [(b"a", b"t1"), (b"b", b"t2")]
    dom0.write(HOME + b"a/0", b"")
    assert guest.events() == [(b"a/0", b"t1")]


def test_same_event_waits_once(dom0: Client, store: Store) -> None:
    watcher = Client(store)
    watcher.watch(b"/a", b"t")
    watcher.events()
    for _ in range(3):
        dom0.write(b"/a", b"x")
    assert watcher.events() == [(b"/a", b"t")]


def test_depth(dom0: Client, guest: Client) -> None:
    """A long path of short names costs much more than its bytes."""
    guest.mkdir(b"/".join([b"a"] * 65))
    for deep in (b"/".join([b"a"] * 66), HOME + b"/".join([b"a"] * 62)):
        refused("ENOSPC", partial(guest.read, deep))
        refused("ENOSPC", partial(guest.mkdir, deep))
        refused("ENOSPC", partial(guest.watch, deep, b"t"))
    dom0.mkdir(HOME + b"/".join([b"a"] * 66))


def test_bytes_of_transactions(store: Store, guest: Client) -> None:
    store.quotas.transaction_bytes = 9_900
    guest.write(b"x", b"")
    first, second = guest.start(), guest.start()
    for _ in range(4):
        guest.write(b"x", bytes(1000), tx=first)
    for _ in range(4):
        guest.write(b"x", bytes(1000), tx=second)
    refused("ENOSPC", lambda: guest.write(b"x", bytes(1000), tx=second))
    refused("ENOSPC", lambda: guest.write(b"y", bytes(1000), tx=first))
    guest.end(second, commit=False)
    guest.write(b"x", bytes(1000), tx=first)
    guest.end(first)


def test_what_a_transaction_keeps_is_let_go_of(
    store: Store, dom0: Client, guest: Client
) -> None:
    """Each sees the store as it was: together all that it ever was."""
    store.quotas.transaction_changes = 10
    mine = [guest.start() for _ in range(5)]
    theirs = dom0.start()
    bases = [guest.connection.transactions[tx].base for tx in mine]
    guest.write(b"a", b"1", tx=mine[0])
    for number in range(10):
        store.expire()
        dom0.write(b"/elsewhere", b"%d" % number)
    store.expire()
    for tx, base in zip(mine, bases, strict=True):
        assert guest.connection.transactions[tx].base is not base
    # It goes on, with a conflict at its end.
    guest.write(b"b", b"2", tx=mine[0])
    assert guest.read(b"b", tx=mine[0]) == b"2"
    refused("EAGAIN", lambda: guest.end(mine[0]))
    refused("ENOENT", lambda: guest.read(b"b"))
    guest.end(mine[1], commit=False)
    assert len(store.aging) == 3
    guest.ask(Is.RESET_WATCHES, b"")
    assert not store.aging
    dom0.end(theirs)


def test_the_loop_lets_go_of_it(store: Store, guest: Client) -> None:
    """Without a further request to that transaction."""
    store.quotas.transaction_changes = 10
    ours, theirs = socket.socketpair()
    loop = StoreLoop(store, None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(loop.stop)
        stack.enter_context(ours)
        loop.call(lambda: loop.add_client(theirs, 3, is_guest=True))

        def ask(kind: Is, payload: bytes, tx: int = 0) -> bytes:
            ours.sendall(message(kind, 0, tx, payload))
            (reply,) = parsed(ours.recv(4096))
            return reply.payload

        tx = int(ask(Is.TRANSACTION_START, b"\0")[:-1])
        for _ in range(20):
            assert ask(Is.WRITE, HOME + b"a\0x") == b"OK\0"
        assert ask(Is.TRANSACTION_END, b"T\0", tx) == b"EAGAIN\0"


def test_a_share_of_a_turn(
    dom0: Client, guest: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request at least; the rest comes after the other clients."""
    monkeypatch.setattr("xenstored.connection._SHARE_NS", 0)
    request = message(Is.GET_DOMAIN_PATH, 0, 0, b"3\0")
    for data in (request * 3, b""):
        assert guest.connection.receive(data)
        assert len(parsed(b"".join(guest.connection.take_output()))) == 1
    assert guest.connection.give_back() == len(request)
    assert not dom0.connection.receive(request * 3)
