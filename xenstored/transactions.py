# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions: a snapshot, what was read of it, and what became of it.

A transaction conflicts when something that it read or wrote was changed by
others meanwhile (docs/misc/xenstore.txt, TRANSACTION_END). What counts is the
part of a node that was looked at: making a child does not disturb who has
read the parent's value, nor who makes another child.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from xenstored.paths import Parts
from xenstored.tree import Node, Tree


class Aspect(IntEnum):
    """What of a node a transaction depends on."""

    EXISTS = 1
    VALUE = 2
    CHILDREN = 4
    PERMS = 8
    SUBTREE = 16
    """All of it and all below: what a removal takes away."""


class Change(IntEnum):
    """What a transaction did to a node."""

    VALUE = 1
    PERMS = 2
    CREATED = 4
    REMOVED = 8
    """With all below it, before anything else in this set."""


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of a connection, from its start to its end."""

    base: Node
    tree: Tree
    reads: dict[Parts, int] = field(default_factory=dict)
    """Every node that it has to do with, and what it depends on there."""
    changes: dict[Parts, int] = field(default_factory=dict)
    events: dict[Parts, bool] = field(default_factory=dict)
    """Paths whose watches fire at the end; True: those of ancestors too."""
    since: int = 0
    """The generation at which it began."""
    held_bytes: int = 0
    """About what it remembers, where it is a domain's."""
    is_lost: bool = False
    """It has a conflict, whatever it does."""

    @classmethod
    def start(cls, tree: Tree) -> "Transaction":
        base = tree.snapshot()
        since = next(tree.generations)
        return cls(base, Tree(base, tree.generations), since=since)

    def renew(self, tree: Tree) -> None:
        """Forget what it has seen and done: it goes on, and is in vain."""
        fresh = Transaction.start(tree)
        self.base, self.tree, self.since = fresh.base, fresh.tree, fresh.since
        for remembered in (self.reads, self.changes, self.events):
            remembered.clear()
        self.is_lost = True

    def note(self, parts: Parts, aspect: int) -> None:
        """Remember that the outcome depends on this part of the base."""
        self.reads[parts] = self.reads.get(parts, 0) | aspect

    def changed(self, parts: Parts, change: int) -> None:
        """Remember what was done in `tree`, in the order that it was done.

        A removal replaces what was done before to the node and below it.
        """
        if change & Change.REMOVED:
            depth = len(parts)
            stale = [p for p in self.changes if p[:depth] == parts]
            for path in stale:
                del self.changes[path]
        self.changes[parts] = self.changes.get(parts, 0) | change

    def conflicts(self, current: Tree) -> bool:
        """Has anything changed in `current` that this depends on?"""
        if self.is_lost:
            return True
        if current.root is self.base:
            return False
        base = Tree(self.base, current.generations)
        return any(
            _differs(base.get(parts), current.get(parts), aspects)
            for parts, aspects in self.reads.items()
        )

    def commit(self, current: Tree) -> None:
        """Bring the changes into `current`, with which there is no conflict."""
        if current.root is self.base:
            current.root = self.tree.root
            current.epoch = self.tree.epoch
            for owner, change in self.tree.nr_nodes.items():
                current.nr_nodes[owner] = (
                    current.nr_nodes.get(owner, 0) + change
                )
            return
        for parts, change, node in self.outcome():
            if change & Change.REMOVED and current.get(parts) is not None:
                current.remove(parts)
            if node is None:
                continue
            if change & Change.CREATED:
                current.create(parts, node.value, node.perms)
                continue
            if change & Change.VALUE:
                current.write(parts, node.value)
            if change & Change.PERMS:
                current.set_perms(parts, node.perms)

    def outcome(self) -> Iterator[tuple[Parts, int, Node | None]]:
        """Each changed path, how, and its node at the end; parents first."""
        for parts in sorted(self.changes, key=len):
            yield parts, self.changes[parts], self.tree.get(parts)

    def base_node(self, parts: Parts) -> Node | None:
        """The node as it was when the transaction began."""
        return Tree(self.base, self.tree.generations).get(parts)


def _differs(before: Node | None, now: Node | None, aspects: int) -> bool:
    if before is now:
        return False
    if before is None or now is None:
        return True
    return bool(
        aspects & Aspect.SUBTREE
        or (
            aspects & Aspect.VALUE
            and before.value_generation != now.value_generation
        )
        or (
            aspects & Aspect.CHILDREN
            and before.children_generation != now.children_generation
        )
        or (
            aspects & Aspect.PERMS
            and before.perms_generation != now.perms_generation
        )
    )
