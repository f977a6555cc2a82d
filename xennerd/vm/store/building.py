# SPDX-License-Identifier: GPL-2.0-or-later
"""A store for one guest, and what its process does there.

All of it is for the store's thread, or before that has begun.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xenner.types import Domid
from xennerd.nodes.guest import Guest, guest_nodes
from xenstored import operations
from xenstored.loop import StoreLoop
from xenstored.paths import resolve
from xenstored.ports import RingLink
from xenstored.requests import handle
from xenstored.store import Store

if TYPE_CHECKING:
    from xennerd.vm.store.builtin import RingEnds


def make_loop(guest: Guest, ends: RingEnds) -> StoreLoop:
    """The guest's nodes in a store of their own, and the loop that serves
    them."""
    store = Store(handle)
    store.write_dom0()
    host = store.connect(0, is_privileged=True)
    for node in guest_nodes(guest):
        path = node.path.encode() + b"\0"
        # A command line may be no text.
        operations.write(host, None, path + os.fsencode(node.value))
        words = b"".join(perm.encode() + b"\0" for perm in node.perms)
        operations.set_perms(host, None, path + words)
    # Nothing connects it yet: the loop does, when it starts, and takes the
    # ring as it finds it. The guest's first requests are there already.
    store.introduce(guest.domid, guest.store_mfn, guest.store_port)
    link = RingLink(
        page=ends.page,
        kick_fd=ends.kick_fd,
        notify=ends.notify,
        close=lambda: None,
    )
    return StoreLoop(store, None, open_ring=lambda _domain: link)


def write(store: Store, path: str, value: str) -> None:
    """As domain 0 does; the node is made where the guest has removed it."""
    host = store.connect(0, is_privileged=True)
    operations.write(host, None, path.encode() + b"\0" + value.encode())


def read(store: Store, path: str) -> str:
    """A node's value, as far as it is text; empty where there is none."""
    node = store.tree.get(resolve(path.encode(), b""))
    return "" if node is None else node.value.decode("latin-1")


def is_watched(store: Store, path: str, domid: Domid) -> bool:
    """Has the domain a watch that a change of the node fires?"""
    seeing = store.watches.seeing(resolve(path.encode(), b""))
    return any(watch.holder.domid == domid for watch in seeing)
