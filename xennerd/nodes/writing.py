# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes into xenstore, all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xenner.xenstore import Xenstore
from xennerd.nodes.guest import Node


def in_transaction(store: Xenstore, act: Callable[[int], None]) -> None:
    """Do `act`, which gets the transaction's number, until nobody else has
    changed the same meanwhile. XenstoreError."""
    while True:
        tx = store.start_transaction()
        act(tx)
        if store.end_transaction(tx, commits=True):
            return


def replace_nodes(
    store: Xenstore, gone: Iterable[str], nodes: Iterable[Node]
) -> None:
    """Remove what is at `gone` and write `nodes`: nobody sees the half of
    it. XenstoreError."""
    gone, nodes = list(gone), list(nodes)

    def act(tx: int) -> None:
        for path in gone:
            store.remove(path, tx=tx)
        for node in nodes:
            store.write(node.path, node.value, tx=tx)
            store.set_perms(node.path, *node.perms, tx=tx)

    in_transaction(store, act)
