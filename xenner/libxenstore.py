# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstore for a backend, through Xen's own libxenstore: it finds the store
as every tool of Xen's does (XENSTORED_PATH, /run/xenstored, /dev/xen/xenbus).

Calls block for a round trip and may be made from several threads.
"""

import errno
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from xenner._xenstore import ffi, lib
from xenner.errors import HostError


class WatchEvent(NamedTuple):
    """A watch fired: the node that changed, and the watch's token."""

    path: str
    token: str


class Store:
    """A connection. Paths without a leading slash are below the caller's own
    domain. OSError where the store refuses, ENOENT excepted."""

    def __init__(self) -> None:
        """HostError if there is no store."""
        self._handle = lib.xs_open(0)
        if self._handle == ffi.NULL:
            raise HostError(
                f"no xenstore: {os.strerror(ffi.errno)}",
                "is it running? XENSTORED_PATH names another socket",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lib.xs_close(self._handle)

    def read(self, path: str) -> str | None:
        """A node's value; None if there is none, or it is no text."""
        length = ffi.new("unsigned int *")
        value = lib.xs_read(self._handle, 0, path.encode(), length)
        if value == ffi.NULL:
            _allow(errno.ENOENT)
            return None
        try:
            return bytes(ffi.buffer(value, length[0])).decode()
        except UnicodeDecodeError:
            return None
        finally:
            lib.free(value)

    def children(self, path: str) -> list[str]:
        """The names below a node; none if it is not there."""
        count = ffi.new("unsigned int *")
        names = lib.xs_directory(self._handle, 0, path.encode(), count)
        if names == ffi.NULL:
            _allow(errno.ENOENT)
            return []
        try:
            return [_text(names[i]) for i in range(count[0])]
        finally:
            lib.free(names)

    def write(self, base: str, values: Mapping[str, object]) -> None:
        """Write nodes below `base`, all or none."""
        while True:
            tx = lib.xs_transaction_start(self._handle)
            if tx == 0:
                _allow()
            try:
                for name, value in values.items():
                    self._write_node(tx, f"{base}/{name}", str(value))
            except OSError:
                lib.xs_transaction_end(self._handle, tx, True)
                raise
            if lib.xs_transaction_end(self._handle, tx, False):
                return
            # Somebody else changed one of them meanwhile: again.
            _allow(errno.EAGAIN)

    def write_existing(self, path: str, value: object) -> bool:
        """Set a node if it is there; a backend does not bring back what the
        toolstack has removed."""
        while True:
            tx = lib.xs_transaction_start(self._handle)
            if tx == 0:
                _allow()
            length = ffi.new("unsigned int *")
            before = lib.xs_read(self._handle, tx, path.encode(), length)
            is_there = bool(before != ffi.NULL)
            lib.free(before)
            try:
                if is_there:
                    self._write_node(tx, path, str(value))
            except OSError:
                lib.xs_transaction_end(self._handle, tx, True)
                raise
            if lib.xs_transaction_end(self._handle, tx, not is_there):
                return is_there
            _allow(errno.EAGAIN)

    def watch(self, path: str, token: str) -> None:
        """Have events for a node and all below it, one at once."""
        if not lib.xs_watch(self._handle, path.encode(), token.encode()):
            _allow()

    def unwatch(self, path: str, token: str) -> None:
        """No more events; a watch that is not there is fine."""
        if not lib.xs_unwatch(self._handle, path.encode(), token.encode()):
            _allow(errno.ENOENT)

    def fileno(self) -> int:
        """Readable while next_event() has something."""
        return int(lib.xs_fileno(self._handle))

    def next_event(self) -> WatchEvent | None:
        """The next one that has come; does not block. HostError: the store
        has closed the connection."""
        pair = lib.xs_check_watch(self._handle)
        if pair == ffi.NULL:
            if ffi.errno == errno.EAGAIN:
                return None
            raise HostError(f"xenstore: {os.strerror(ffi.errno)}")
        try:
            return WatchEvent(_text(pair[0]), _text(pair[1]))
        finally:
            lib.free(pair)

    def _write_node(self, tx: int, path: str, value: str) -> None:
        data = value.encode()
        if not lib.xs_write(self._handle, tx, path.encode(), data, len(data)):
            _allow()


def _text(string: Any) -> str:
    return bytes(ffi.string(string)).decode(errors="replace")


def _allow(*allowed: int) -> None:
    """OSError from errno, unless it is one of these."""
    number = ffi.errno
    if number not in allowed:
        raise OSError(number, f"xenstore: {os.strerror(number)}")
