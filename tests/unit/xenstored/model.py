# SPDX-License-Identifier: GPL-2.0-or-later
"""What a store must do, as simply as it can be said: a flat table of nodes."""

from dataclasses import dataclass, field, replace
from itertools import count

from xenstored.paths import joined
from xenstored.permissions import unparse
from xenstored.store import Store
from xenstored.tree import walk

_stamps = count(1)


def above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def is_below(path: bytes, top: bytes) -> bool:
    """Is it `top` or one of its descendants?"""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


@dataclass(frozen=True)
class ModelNode:
    """The stamps tell one change from another."""

    value: bytes
    perms: tuple[bytes, ...]
    value_stamp: int
    perms_stamp: int
    names_stamp: int


@dataclass
class ModelTable:
    """Nodes by path; changes return nothing and raise KeyError: ENOENT."""

    nodes: dict[bytes, ModelNode]

    def write(self, path: bytes, value: bytes) -> None:
        if path in self.nodes:
            changed = replace(
                self.nodes[path], value=value, value_stamp=next(_stamps)
            )
            self.nodes[path] = changed
        else:
            self.make(path, value)

    def make(self, path: bytes, value: bytes = b"") -> None:
        if path in self.nodes:
            return
        self.make(above(path))
        parent = self.nodes[above(path)]
        self.nodes[path] = ModelNode(
            value, parent.perms, next(_stamps), next(_stamps), next(_stamps)
        )
        self.nodes[above(path)] = replace(parent, names_stamp=next(_stamps))

    def remove(self, path: bytes) -> None:
        for each in [p for p in self.nodes if is_below(p, path)]:
            del self.nodes[each]
        parent = self.nodes[above(path)]
        self.nodes[above(path)] = replace(parent, names_stamp=next(_stamps))

    def set_perms(self, path: bytes, perms: tuple[bytes, ...]) -> None:
        node = self.nodes[path]
        changed = replace(node, perms=perms, perms_stamp=next(_stamps))
        self.nodes[path] = changed

    def names(self, path: bytes) -> set[bytes]:
        """The children of a node that exists."""
        assert path in self.nodes
        return {
            each.rpartition(b"/")[2]
            for each in self.nodes
            if each != b"/" and above(each) == path
        }


@dataclass
class ModelTransaction:
    """A copy of the table, what was looked at, and what was done to it."""

    before: dict[bytes, ModelNode]
    table: ModelTable
    looked: set[tuple[bytes, str]] = field(default_factory=set)
    done: list[tuple[str, bytes, object]] = field(default_factory=list)

    def conflicts(self, now: dict[bytes, ModelNode]) -> bool:
        return any(self._differs(now, *each) for each in self.looked)

    def _differs(
        self, now: dict[bytes, ModelNode], path: bytes, what: str
    ) -> bool:
        if what == "subtree":
            return _below(self.before, path) != _below(now, path)
        before, after = self.before.get(path), now.get(path)
        if before is None or after is None:
            return before is not after
        match what:
            case "value":
                return before.value_stamp != after.value_stamp
            case "perms":
                return before.perms_stamp != after.perms_stamp
            case "names":
                return before.names_stamp != after.names_stamp
        return False


def _below(nodes: dict[bytes, ModelNode], top: bytes) -> dict[bytes, ModelNode]:
    return {path: node for path, node in nodes.items() if is_below(path, top)}


def contents(store: Store) -> dict[bytes, tuple[bytes, bytes]]:
    """All that clients can see of the nodes, special ones apart."""
    return {
        joined(parts): (node.value, unparse(node.perms))
        for parts, node in walk(store.tree.root, ())
        if parts and not parts[0]
    }
