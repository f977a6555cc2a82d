# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree of nodes: persistent, so that a snapshot costs nothing.

A node is changed in place only while its tree is the only one that can see
it; after `snapshot()` every change copies the nodes on its path first. So a
transaction begins with one assignment, and whether something below a node has
changed since is whether it is still the same object.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from xenstored.paths import ROOT, Parts
from xenstored.permissions import Perms


@dataclass(slots=True, eq=False)
class Node:
    """One node. The generations tell when each of its three parts changed."""

    value: bytes
    perms: Perms
    children: dict[bytes, "Node"]
    value_generation: int
    perms_generation: int
    children_generation: int
    """The set of names, not what stands below them."""
    epoch: object
    """Of the tree that may change the node in place."""

    @property
    def generation(self) -> int:
        """Of the latest change of any kind."""
        return max(
            self.value_generation,
            self.perms_generation,
            self.children_generation,
        )

    def names_bytes(self) -> int:
        """Length of the list of children as DIRECTORY sends it."""
        return sum(map(len, self.children)) + len(self.children)


@dataclass(slots=True, eq=False)
class Tree:
    """A root, and for each owner how many nodes below it are its own.

    All paths must be valid; whether they exist is told by results. In the
    tree of a transaction `nr_nodes` has the difference to its base.
    """

    root: Node
    generations: Iterator[int]
    nr_nodes: dict[int, int] = field(default_factory=dict)
    epoch: object = field(default_factory=object)

    @classmethod
    def with_root(cls, *, first_generation: int, perms: Perms) -> "Tree":
        """A tree with the node `/` and nothing else."""
        generations = count(first_generation)
        top = Node(b"", perms, {}, 0, 0, 0, object())
        tree = cls(top, generations)
        tree.create(ROOT, b"", perms)
        return tree

    def get(self, parts: Parts) -> Node | None:
        """The node at a path, None if there is none."""
        node = self.root
        try:
            for name in parts:
                node = node.children[name]
        except KeyError:
            return None
        return node

    def nearest(self, parts: Parts) -> tuple[Node, int]:
        """The deepest node on the way to a path, and how many parts it has."""
        node = self.root
        for depth, name in enumerate(parts):
            child = node.children.get(name)
            if child is None:
                return node, depth
            node = child
        return node, len(parts)

    def snapshot(self) -> Node:
        """The root as it is now; later changes do not reach what it shows."""
        self.epoch = object()
        return self.root

    def write(self, parts: Parts, value: bytes) -> Node:
        """Give an existing node a value."""
        node = self._own(parts)
        node.value = value
        node.value_generation = next(self.generations)
        return node

    def set_perms(self, parts: Parts, perms: Perms) -> Node:
        """Give an existing node permissions, and thereby an owner."""
        node = self._own(parts)
        self._count(node.perms[0][0], -1)
        self._count(perms[0][0], 1)
        node.perms = perms
        node.perms_generation = next(self.generations)
        return node

    def create(self, parts: Parts, value: bytes, perms: Perms) -> Node:
        """Make a node whose parent exists and has no child of that name."""
        parent = self._own(parts[:-1])
        generation = next(self.generations)
        node = Node(
            *(value, perms, {}),
            *(generation, generation, generation),
            self.epoch,
        )
        parent.children[parts[-1]] = node
        parent.children_generation = generation
        self._count(perms[0][0], 1)
        return node

    def remove(self, parts: Parts) -> Node:
        """Take out an existing node with all below it; returns the node."""
        parent = self._own(parts[:-1])
        node = parent.children.pop(parts[-1])
        parent.children_generation = next(self.generations)
        for _, gone in walk(node, parts):
            self._count(gone.perms[0][0], -1)
        return node

    def _own(self, parts: Parts) -> Node:
        """An existing node, made safe to change in place."""
        epoch = self.epoch
        node = self.root
        if node.epoch is not epoch:
            self.root = node = _copy(node, epoch)
        for name in parts:
            child = node.children[name]
            if child.epoch is not epoch:
                child = _copy(child, epoch)
                node.children[name] = child
            node = child
        return node

    def _count(self, owner: int, change: int) -> None:
        self.nr_nodes[owner] = self.nr_nodes.get(owner, 0) + change


def _copy(node: Node, epoch: object) -> Node:
    return Node(
        node.value,
        node.perms,
        node.children.copy(),
        node.value_generation,
        node.perms_generation,
        node.children_generation,
        epoch,
    )


def walk(node: Node, parts: Parts) -> Iterator[tuple[Parts, Node]]:
    """A node and all below it, each before its children."""
    # Not recursive: a path has up to 1536 parts.
    pending = [(parts, node)]
    while pending:
        parts, node = pending.pop()
        yield parts, node
        pending.extend(
            ((*parts, name), child)
            for name, child in reversed(node.children.items())
        )
