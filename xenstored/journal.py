# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of the store across restarts, as a sequence of records.

A batch is what belongs together: it is applied whole or not at all.

    batch    u32 length of the records, u32 their CRC-32, records
    record   u8 kind, u32 length of each field ..., fields

The fields of each kind are in `Record`. Numbers are little-endian or, inside
fields, decimal. Reading ends at the first batch that is not whole.
"""

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum

from xenstored import permissions
from xenstored.paths import Parts, joined
from xenstored.permissions import Perms
from xenstored.watches import Holder, Watch

Batch = list[tuple["Record", list[bytes]]]

_BATCH = struct.Struct("<II")


class Record(IntEnum):
    """The kinds, with their fields."""

    NODE = 1
    """path, permissions as GET_PERMS sends them, value: made or changed."""
    REMOVED = 2
    """path: it is gone with all below."""
    WATCH = 3
    """domid, path as the domain said it, token, depth or nothing."""
    UNWATCH = 4
    """domid, path in full, token."""
    RESET = 5
    """domid: its watches are gone."""
    INTRODUCED = 6
    """domid, frame number, event channel port."""
    RELEASED = 7
    """domid"""
    TARGET = 8
    """domid, domid of its target"""
    START = 9
    """How often the store has been started: the first record of a file."""


_FIELDS = {
    Record.NODE: 3,
    Record.REMOVED: 1,
    Record.WATCH: 4,
    Record.UNWATCH: 3,
    Record.RESET: 1,
    Record.INTRODUCED: 3,
    Record.RELEASED: 1,
    Record.TARGET: 2,
    Record.START: 1,
}
_HEADS = {kind: struct.Struct(f"<B{n}I") for kind, n in _FIELDS.items()}


def encode(kind: Record, *fields: bytes) -> bytes:
    """One record."""
    return _HEADS[kind].pack(kind, *map(len, fields)) + b"".join(fields)


def encode_node(parts: Parts, perms: Perms, value: bytes) -> bytes:
    """The record of a node made or changed."""
    return encode(Record.NODE, joined(parts), permissions.unparse(perms), value)


def encode_watch(domid: int, watch: Watch[Holder]) -> bytes:
    """The record of a domain's watch."""
    depth = b"" if watch.depth is None else b"%d" % watch.depth
    return encode(Record.WATCH, b"%d" % domid, watch.path, watch.token, depth)


def batch(records: list[bytes]) -> bytes:
    """What is written for one change of the store."""
    body = b"".join(records)
    return _BATCH.pack(len(body), zlib.crc32(body)) + body


def batches(
    data: bytes,
) -> Iterator[tuple[int, list[tuple[Record, list[bytes]]]]]:
    """All whole batches from the start: where each ends, and its records."""
    at = 0
    while at + _BATCH.size <= len(data):
        length, crc = _BATCH.unpack_from(data, at)
        body = data[at + _BATCH.size : at + _BATCH.size + length]
        if len(body) < length or zlib.crc32(body) != crc:
            return
        at += _BATCH.size + length
        yield at, list(_records(body))


def _records(body: bytes) -> Iterator[tuple[Record, list[bytes]]]:
    at = 0
    while at < len(body):
        kind = Record(body[at])
        _, *lengths = _HEADS[kind].unpack_from(body, at)
        at += _HEADS[kind].size
        fields = []
        for length in lengths:
            fields.append(body[at : at + length])
            at += length
        yield kind, fields


class Journal:
    """Collects records until the file takes them; keeps none if unwanted.

    Without a file (`is_kept` False) nothing is collected.
    """

    def __init__(self, *, is_kept: bool = False) -> None:
        self.is_kept = is_kept
        self.is_held = False
        """Several changes are made that belong together."""
        self._records: list[bytes] = []
        self._batches: list[bytes] = []

    def note(self, kind: Record, *fields: bytes) -> None:
        if self.is_kept:
            self._records.append(encode(kind, *fields))

    def note_node(self, parts: Parts, perms: Perms, value: bytes) -> None:
        if self.is_kept:
            self._records.append(encode_node(parts, perms, value))

    def note_watch(self, domid: int, watch: Watch[Holder]) -> None:
        if self.is_kept:
            self._records.append(encode_watch(domid, watch))

    def seal(self) -> None:
        """What was noted since the last call is one change."""
        if self._records and not self.is_held:
            self._batches.append(batch(self._records))
            self._records = []

    def take(self) -> bytes:
        """The sealed batches, for the file."""
        if not self._batches:
            return b""
        taken = b"".join(self._batches)
        self._batches = []
        return taken
