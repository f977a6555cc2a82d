# SPDX-License-Identifier: GPL-2.0-or-later
"""The wire protocol of xenstore: io/xs_wire.h and docs/misc/xenstore.txt.

A message is a header of four little-endian 32-bit words (type, req_id, tx_id,
length of the payload) and the payload.
"""

import errno
import struct
from enum import IntEnum


class MessageType(IntEnum):
    """enum xsd_sockmsg_type."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22


HEADER = struct.Struct("<IIII")
"""struct xsd_sockmsg: type, req_id, tx_id, len."""

PAYLOAD_MAX = 4096
"""XENSTORE_PAYLOAD_MAX, bytes; a client that sends more is cut off."""

ABS_PATH_MAX = 3072
"""XENSTORE_ABS_PATH_MAX, bytes."""

REL_PATH_MAX = 2048
"""XENSTORE_REL_PATH_MAX, bytes."""

OK = b"OK\0"

# struct xsd_errors of the header: the names that clients can translate.
ERRORS = (
    *("EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC"),
    *("EIO", "ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN"),
    *("E2BIG", "EPERM"),
)
_NAMES = {getattr(errno, name): name.encode() + b"\0" for name in ERRORS}


class StoreError(Exception):
    """A request is refused with this errno; its client is told the name."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def payload(self) -> bytes:
        """The payload of the ERROR reply; EINVAL for what has no name."""
        return _NAMES.get(self.number, b"EINVAL\0")


class RingFault(IntEnum):
    """XENSTORE_ERROR_*: why the store does not talk to a guest any more."""

    NONE = 0
    COMM = 1
    RINGIDX = 2
    PROTO = 3


class ProtocolError(Exception):
    """The byte stream is no sequence of messages: the connection ends."""

    def __init__(
        self, text: str, *, fault: RingFault = RingFault.PROTO
    ) -> None:
        super().__init__(text)
        self.fault = fault


def message(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """One message in its form on the wire."""
    return HEADER.pack(kind, req_id, tx_id, len(payload)) + payload


def strings(payload: bytes) -> list[bytes]:
    """The strings of a payload that end in a nul; what follows is ignored."""
    return payload.split(b"\0")[:-1]


def one_string(payload: bytes) -> bytes:
    """The only string of a payload with exactly one nul, at its end.

    Raises StoreError (EINVAL) for any other payload.
    """
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise StoreError(errno.EINVAL)
    return payload[:-1]


def number(text: bytes, *, most: int) -> int:
    """A decimal number 0..most; StoreError (EINVAL) for anything else."""
    if not text.isdigit() or len(text) > 20 or int(text) > most:
        raise StoreError(errno.EINVAL)
    return int(text)


def first_bytes(data: bytes) -> int:
    """How long the first message is, or 0 if not even its header is there."""
    if len(data) < HEADER.size:
        return 0
    return HEADER.size + int(HEADER.unpack_from(data)[3])


def whole_bytes(data: bytes, *, most: int) -> int:
    """How long the whole messages at the start are, at most so many."""
    at, end = 0, len(data)
    for _ in range(most):
        if end - at < HEADER.size:
            break
        after = at + HEADER.size + int(HEADER.unpack_from(data, at)[3])
        if after > end:
            break
        at = after
    return at
