# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes into xenstore, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable

from xenner.xenstore import Xenstore
from xennerd.guestnodes import Node


def replace_nodes(
    store: Xenstore, gone: Iterable[str], nodes: Iterable[Node]
) -> None:
    """Remove what is at `gone` and write `nodes`: nobody sees the half of
    it. XenstoreError."""
    gone, nodes = list(gone), list(nodes)
    while True:
        tx = store.start_transaction()
        for path in gone:
            store.remove(path, tx=tx)
        for node in nodes:
            store.write(node.path, node.value, tx=tx)
            store.set_perms(node.path, *node.perms, tx=tx)
        if store.end_transaction(tx, commits=True):
            return
