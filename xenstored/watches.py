# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches by path: which of them an event at some path concerns."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from xenstored.paths import Parts, joined

Holder = TypeVar("Holder")

INTRODUCE_DOMAIN = b"@introduceDomain"
RELEASE_DOMAIN = b"@releaseDomain"


@dataclass(slots=True, eq=False)
class Watch(Generic[Holder]):
    """One watch of a connection, its holder."""

    holder: Holder
    parts: Parts
    token: bytes
    depth: int | None
    """Levels below its path that it sees; None: all."""
    path: bytes
    """As the client wrote it, relative or not."""
    prefix_bytes: int
    """What to cut off an event's path to make it relative as the watch is."""

    def event_path(self, parts: Parts) -> bytes:
        """An event's path as the client shall see it."""
        return joined(parts)[self.prefix_bytes :]


@dataclass(slots=True, eq=False)
class _Branch(Generic[Holder]):
    watches: list[Watch[Holder]] = field(default_factory=list)
    children: dict[bytes, "_Branch[Holder]"] = field(default_factory=dict)


class WatchTable(Generic[Holder]):
    """All watches, of all connections, as a tree by path."""

    def __init__(self) -> None:
        self._root: _Branch[Holder] = _Branch()

    def add(self, watch: Watch[Holder]) -> None:
        branch = self._root
        for name in watch.parts:
            branch = branch.children.setdefault(name, _Branch())
        branch.watches.append(watch)

    def remove(self, watch: Watch[Holder]) -> None:
        """Take out a watch that is in the table."""
        way = [self._root]
        for name in watch.parts:
            way.append(way[-1].children[name])
        way[-1].watches.remove(watch)
        for depth in range(len(watch.parts), 0, -1):
            if way[depth].watches or way[depth].children:
                break
            del way[depth - 1].children[watch.parts[depth - 1]]

    def seeing(self, parts: Parts) -> Iterator[Watch[Holder]]:
        """Those at a path or at an ancestor, within their depths."""
        branch = self._root
        below = len(parts)
        for name in parts:
            child = branch.children.get(name)
            if child is None:
                return
            branch = child
            below -= 1
            for watch in branch.watches:
                if watch.depth is None or below <= watch.depth:
                    yield watch

    def at(self, parts: Parts) -> list[Watch[Holder]]:
        """Those at exactly this path."""
        branch = self._root
        for name in parts:
            child = branch.children.get(name)
            if child is None:
                return []
            branch = child
        return branch.watches

    def special(
        self, name: bytes, domid: int
    ) -> Iterator[tuple[Watch[Holder], Parts]]:
        """Those that a special event concerns, each with the path to report.

        A watch of depth 1 or more, and one of `name/domid`, is told the
        domain; one without a depth is not.
        """
        with_domid = (name, b"%d" % domid)
        for watch in self.at((name,)):
            if watch.depth is None:
                yield watch, (name,)
            elif watch.depth > 0:
                yield watch, with_domid
        for watch in self.at(with_domid):
            yield watch, with_domid
