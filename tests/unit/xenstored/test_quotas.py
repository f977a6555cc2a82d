# SPDX-License-Identifier: GPL-2.0-or-later
"""No guest takes more than its share, and dom0 is not limited."""

import pytest

from tests.support.storeclient import Client, RefusedError, parsed, refused
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
