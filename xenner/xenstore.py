# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of xenstore over its Unix socket: io/xs_wire.h. Calls block.

What a daemon does now and then: make and remove nodes, introduce a domain.
"""

from __future__ import annotations

import select
import socket
import struct
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from xenner.errors import HostError
from xenner.types import Domid, Mfn, Port

_HEADER = struct.Struct("<IIII")
_PAYLOAD_MAX = 4096
_LIMIT_S = 10.0
_ANY_BYTES = "surrogateescape"


class _Type(IntEnum):
    """Of enum xsd_sockmsg_type."""

    DIRECTORY = 1
    READ = 2
    WATCH = 4
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    WRITE = 11
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16


class XenstoreError(Exception):
    """The store refused; `name` is Xen's name of the error, as ENOENT."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{what}: {name}")
        self.name = name


class Xenstore:
    """A connection, for domain 0."""

    def __init__(self, path: Path, *, limit_s: float = _LIMIT_S) -> None:
        """HostError if nobody listens there; `limit_s` is for each answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._has_event = False
        with ExitStack() as on_fail:
            on_fail.callback(self._socket.close)
            self._socket.settimeout(limit_s)
            try:
                self._socket.connect(str(path))
            except OSError as error:
                raise HostError(
                    f"xenstore at {path}: {error.strerror or error}",
                    "is it running?",
                ) from error
            on_fail.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def read(self, path: str) -> str:
        """A node's value. A guest's may be no text: what is none comes as
        surrogates, which write() gives back as they were."""
        data = self._call(_Type.READ, path.encode(errors=_ANY_BYTES) + b"\0")
        return data.decode(errors=_ANY_BYTES)

    def find(self, path: str) -> str | None:
        """A node's value; None if there is no such node."""
        try:
            return self.read(path)
        except XenstoreError as error:
            if error.name != "ENOENT":
                raise
            return None

    def directory(self, path: str) -> list[str]:
        """The names of a node's children; none if there is no such node."""
        try:
            data = self._call(_Type.DIRECTORY, path.encode() + b"\0")
        except XenstoreError as error:
            if error.name != "ENOENT":
                raise
            return []
        return [name.decode() for name in data.split(b"\0") if name]

    def write(self, path: str, value: str, *, tx: int = 0) -> None:
        """Set a node, made where it is missing."""
        data = path.encode() + b"\0" + value.encode(errors=_ANY_BYTES)
        self._call(_Type.WRITE, data, tx=tx)

    def set_perms(self, path: str, *perms: str, tx: int = 0) -> None:
        """Owner first: "n0" nobody but domain 0, "r7" domain 7 may read."""
        words = (path, *perms)
        data = b"".join(word.encode() + b"\0" for word in words)
        self._call(_Type.SET_PERMS, data, tx=tx)

    def remove(self, path: str, *, tx: int = 0) -> None:
        """Remove a node and all below it; one that is not there is gone."""
        try:
            self._call(_Type.RM, path.encode() + b"\0", tx=tx)
        except XenstoreError as error:
            if error.name != "ENOENT":
                raise

    def watch(self, path: str) -> None:
        """Have wait_event() hear of a node, once at once."""
        self._call(_Type.WATCH, path.encode() + b"\0\0")

    def wait_event(self, limit_s: float) -> bool:
        """Until something has changed since the last call. False: for so long
        nothing has."""
        if not self._has_event:
            # Whether all of a message comes in time is not asked here.
            ready, _, _ = select.select([self._socket], [], [], limit_s)
            if not ready:
                return False
            self._take()
        self._has_event = False
        return True

    def start_transaction(self) -> int:
        """A number for `tx`."""
        return int(self._call(_Type.TRANSACTION_START, b"\0").rstrip(b"\0"))

    def end_transaction(self, tx: int, *, commits: bool) -> bool:
        """False: somebody was faster; all of it has to be done again."""
        try:
            data = b"T\0" if commits else b"F\0"
            self._call(_Type.TRANSACTION_END, data, tx=tx)
        except XenstoreError as error:
            if error.name != "EAGAIN":
                raise
            return False
        return True

    def introduce(self, domid: Domid, ring: Mfn, port: Port) -> None:
        """Have the store serve a domain's ring."""
        data = b"%d\0%d\0%d\0" % (domid, ring, port)
        self._call(_Type.INTRODUCE, data)

    def release(self, domid: Domid) -> None:
        """The domain is gone."""
        self._call(_Type.RELEASE, b"%d\0" % domid)

    def _call(self, kind: _Type, data: bytes, *, tx: int = 0) -> bytes:
        self._socket.sendall(_HEADER.pack(kind, 0, tx, len(data)) + data)
        while (reply := self._take())[0] == _Type.WATCH_EVENT:
            pass
        answer, payload = reply
        if answer == _Type.ERROR:
            what = data.split(b"\0")[0].decode(errors="replace")
            name = payload.rstrip(b"\0").decode(errors="replace")
            raise XenstoreError(name, f"{kind.name.lower()} {what}")
        return payload

    def _take(self) -> tuple[int, bytes]:
        """The next message: its type and its payload."""
        kind, _, _, length = _HEADER.unpack(self._receive(_HEADER.size))
        if length > _PAYLOAD_MAX:
            raise HostError(f"xenstore sent a reply of {length} bytes")
        self._has_event |= kind == _Type.WATCH_EVENT
        return kind, self._receive(length)

    def _receive(self, size_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < size_bytes:
            chunk = self._socket.recv(size_bytes - len(data))
            if not chunk:
                raise HostError("xenstore closed the connection")
            data += chunk
        return bytes(data)
