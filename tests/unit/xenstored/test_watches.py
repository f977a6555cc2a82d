# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: relative paths, special events, what guests may see."""

from tests.support.storeclient import Client, parsed
from xenstored.store import Store
from xenstored.wire import MessageType as Is
from xenstored.wire import message


def test_new_watch_fires_once_after_its_reply(dom0: Client) -> None:
    payload = b"/nothing/yet\0token\0"
    dom0.connection.receive(message(Is.WATCH, 1, 0, payload))
    reply, event = parsed(b"".join(dom0.connection.take_output()))
    assert (reply.kind, event.kind) == (Is.WATCH, Is.WATCH_EVENT)
    assert event.payload == payload


def test_relative_watch_has_relative_events(
    dom0: Client, guest: Client
) -> None:
    guest.watch(b"a", b"rel")
    guest.watch(b"/local/domain/3/a", b"abs")
    assert guest.events() == [(b"a", b"rel"), (b"/local/domain/3/a", b"abs")]
    dom0.write(b"/local/domain/3/a/b", b"")
    assert guest.events() == [
        (b"a/b", b"rel"),
        (b"/local/domain/3/a/b", b"abs"),
    ]


def test_removal_tells_watches_below(dom0: Client, store: Store) -> None:
    dom0.write(b"/a/b/c", b"")
    watcher = Client(store)
    for path in (b"/", b"/a", b"/a/b", b"/a/b/c", b"/a/b/x"):
        watcher.watch(path, b"t")
    watcher.events()
    dom0.rm(b"/a")
    assert watcher.events() == [
        (b"/a/b/c", b"t"),
        (b"/a/b", b"t"),
        (b"/a", b"t"),
    ]


def test_removal_in_a_transaction_tells_watches_below(
    dom0: Client, store: Store
) -> None:
    dom0.write(b"/a/b/c", b"")
    watcher = Client(store)
    watcher.watch(b"/a/b", b"t")
    watcher.events()
    tx = dom0.start()
    dom0.rm(b"/a", tx=tx)
    dom0.end(tx)
    assert watcher.events() == [(b"/a/b", b"t")]


def test_events_of_a_transaction_come_at_its_end(
    dom0: Client, store: Store
) -> None:
    watcher = Client(store)
    watcher.watch(b"/a", b"t")
    watcher.events()
    tx = dom0.start()
    dom0.write(b"/a/x", b"", tx=tx)
    dom0.write(b"/a/y", b"", tx=tx)
    dom0.write(b"/a/gone", b"", tx=tx)
    dom0.rm(b"/a/gone", tx=tx)
    assert watcher.events() == []
    dom0.end(tx)
    assert watcher.events() == [(b"/a/x", b"t"), (b"/a/y", b"t")]


def test_guest_sees_what_it_may_read(
    store: Store, dom0: Client, guest: Client
) -> None:
    guest.watch(b"/", b"t")
    guest.events()
    dom0.write(b"/secret/a", b"")
    assert guest.events() == []
    dom0.set_perms(b"/secret/a", b"n0", b"r3")
    assert guest.events() == [(b"/secret/a", b"t")]
    # That it may not any more is the last that it hears.
    dom0.set_perms(b"/secret/a", b"n0")
    assert guest.events() == [(b"/secret/a", b"t")]
    dom0.rm(b"/secret/a")
    assert guest.events() == []


def test_guest_hears_of_removal_by_its_parent(
    dom0: Client, guest: Client
) -> None:
    dom0.write(b"/local/domain/3/x", b"")
    dom0.set_perms(b"/local/domain/3/x", b"n0")
    guest.watch(b"x", b"t")
    guest.events()
    dom0.rm(b"/local/domain/3/x")
    assert guest.events() == [(b"x", b"t")]


def test_special_watches(store: Store, dom0: Client) -> None:
    dom0.watch(b"@introduceDomain", b"all")
    dom0.watch(b"@releaseDomain", b"all")
    dom0.watch(b"@releaseDomain", b"which", b"1")
    dom0.watch(b"@releaseDomain", b"none", b"0")
    dom0.watch(b"@releaseDomain/4", b"four")
    dom0.events()
    other = Client(store)
    other.ask(Is.INTRODUCE, b"3", b"1", b"1")
    assert dom0.events() == [(b"@introduceDomain", b"all")]
    other.ask(Is.INTRODUCE, b"3", b"1", b"2")
    assert dom0.events() == []
    other.ask(Is.RELEASE, b"3")
    assert dom0.events() == [
        (b"@releaseDomain", b"all"),
        (b"@releaseDomain/3", b"which"),
    ]
    store.introduce(4, 1, 1)
    dom0.events()
    store.shut_down(4)
    told = [
        (b"@releaseDomain", b"all"),
        (b"@releaseDomain/4", b"which"),
        (b"@releaseDomain/4", b"four"),
    ]
    assert dom0.events() == told
    store.shut_down(4)
    assert dom0.events() == []
    other.ask(Is.RESUME, b"4")
    store.shut_down(4)
    assert dom0.events() == told


def test_guest_needs_permission_for_special_watches(
    store: Store, dom0: Client, guest: Client
) -> None:
    guest.watch(b"@releaseDomain", b"t")
    guest.events()
    store.introduce(4, 1, 1)
    store.release(4)
    assert guest.events() == []
    dom0.set_perms(b"@releaseDomain", b"n0", b"r3")
    guest.events()
    store.introduce(4, 1, 1)
    store.release(4)
    assert guest.events() == [(b"@releaseDomain", b"t")]


def test_client_that_leaves_takes_its_watches(
    store: Store, dom0: Client
) -> None:
    watcher = Client(store)
    watcher.watch(b"/a/b", b"t")
    watcher.start()
    watcher.events()
    store.disconnect(watcher.connection)
    dom0.write(b"/a/b", b"")
    assert watcher.events() == []
    assert store.watches.at((b"", b"a", b"b")) == []


def test_reset_watches(dom0: Client) -> None:
    dom0.watch(b"/a", b"t")
    tx = dom0.start()
    dom0.events()
    dom0.ask(Is.RESET_WATCHES, b"")
    dom0.write(b"/a", b"")
    assert dom0.events() == []
    assert tx not in dom0.connection.transactions
