# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstore for a backend, through Xen's own libxenstore: it finds the store
as every tool of Xen's does (XENSTORED_PATH, /run/xenstored, /dev/xen/xenbus).

Calls block for a round trip and may be made from several threads.
"""

import errno
import os
import select
import socket
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
    domain. OSError where the store refuses, ENOENT excepted; HostError where
    it has ended: its watches are gone, and a new one may not have them."""

    def __init__(self) -> None:
        """HostError if there is no store."""
        # Before libxenstore's own: both are of one store, or it is noticed.
        self._witness = _connect_witness()
        self._handle = lib.xs_open(0)
        if self._handle == ffi.NULL:
            number = ffi.errno
            if self._witness is not None:
                self._witness.close()
            raise HostError(
                f"no xenstore: {os.strerror(number)}",
                "is it running? XENSTORED_PATH names another socket",
            )
        self._ready = select.epoll()
        self._ready.register(lib.xs_fileno(self._handle), select.EPOLLIN)
        if self._witness is not None:
            self._ready.register(self._witness, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ready.close()
        if self._witness is not None:
            self._witness.close()
        lib.xs_close(self._handle)

    def read(self, path: str) -> str | None:
        """A node's value; None if there is none, or it is no text."""
        length = ffi.new("unsigned int *")
        value = lib.xs_read(self._handle, 0, path.encode(), length)
        if value == ffi.NULL:
            self._allow(errno.ENOENT)
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
            self._allow(errno.ENOENT)
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
                self._allow()
            try:
                for name, value in values.items():
                    self._write_node(tx, f"{base}/{name}", str(value))
            except OSError:
                lib.xs_transaction_end(self._handle, tx, True)
                raise
            if lib.xs_transaction_end(self._handle, tx, False):
                return
            # Somebody else changed one of them meanwhile: again.
            self._allow(errno.EAGAIN)

    def write_existing(self, path: str, value: object) -> bool:
        """Set a node if it is there; a backend does not bring back what the
        toolstack has removed."""
        while True:
            tx = lib.xs_transaction_start(self._handle)
            if tx == 0:
                self._allow()
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
            self._allow(errno.EAGAIN)

    def watch(self, path: str, token: str) -> None:
        """Have events for a node and all below it, one at once."""
        if not lib.xs_watch(self._handle, path.encode(), token.encode()):
            self._allow()

    def unwatch(self, path: str, token: str) -> None:
        """No more events; a watch that is not there is fine."""
        if not lib.xs_unwatch(self._handle, path.encode(), token.encode()):
            self._allow(errno.ENOENT)

    def fileno(self) -> int:
        """Readable while next_event() has something, or raises."""
        return self._ready.fileno()

    def next_event(self) -> WatchEvent | None:
        """The next one that has come; does not block. HostError: the store
        has ended."""
        pair = lib.xs_check_watch(self._handle)
        if pair == ffi.NULL:
            self._allow(errno.EAGAIN)
            if self._witness is not None and _is_at_end(self._witness):
                raise _ended()
            return None
        try:
            return WatchEvent(_text(pair[0]), _text(pair[1]))
        finally:
            lib.free(pair)

    def _write_node(self, tx: int, path: str, value: str) -> None:
        data = value.encode()
        if not lib.xs_write(self._handle, tx, path.encode(), data, len(data)):
            self._allow()

    def _allow(self, *allowed: int) -> None:
        """OSError from errno, unless it is one of these."""
        number = ffi.errno
        if number in allowed:
            return
        # With no connection, libxenstore's calls fail in more than one way;
        # this one is not refused to anybody.
        path = lib.xs_get_domain_path(self._handle, 0)
        if path == ffi.NULL:
            raise _ended()
        lib.free(path)
        raise OSError(number, f"xenstore: {os.strerror(number)}")


def _connect_witness() -> socket.socket | None:
    """A connection that nothing is asked on: it ends with the store, and says
    so, as libxenstore's descriptor does not. None where the store is behind a
    device, /dev/xen/xenbus."""
    witness = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        witness.connect(ffi.string(lib.xs_daemon_socket()))
    except OSError:
        witness.close()
        return None
    return witness


def _ended() -> HostError:
    return HostError("xenstore has ended")


def _is_at_end(witness: socket.socket) -> bool:
    try:
        return not witness.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _text(string: Any) -> str:
    return bytes(ffi.string(string)).decode(errors="replace")
