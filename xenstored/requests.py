# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of operations, and the way of one request through it."""

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass

from xenstored import domain_operations as domains
from xenstored import operations as nodes
from xenstored.control import control
from xenstored.store import Client
from xenstored.transactions import Transaction
from xenstored.wire import PAYLOAD_MAX, MessageType, StoreError

_log = logging.getLogger("xenner.store")

Operation = Callable[[Client, Transaction | None, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation: its handler, and its terms of use."""

    run: Operation
    ignores_tx: bool = False
    """The request's tx_id says nothing."""
    is_privileged: bool = False
    """EACCES for a guest."""


OPERATIONS = {
    MessageType.CONTROL: Entry(control, is_privileged=True),
    MessageType.DIRECTORY: Entry(nodes.directory),
    MessageType.READ: Entry(nodes.read),
    MessageType.GET_PERMS: Entry(nodes.get_perms),
    MessageType.WATCH: Entry(nodes.watch, ignores_tx=True),
    MessageType.UNWATCH: Entry(nodes.unwatch, ignores_tx=True),
    MessageType.TRANSACTION_START: Entry(nodes.transaction_start),
    MessageType.TRANSACTION_END: Entry(nodes.transaction_end),
    MessageType.INTRODUCE: Entry(domains.introduce, is_privileged=True),
    MessageType.RELEASE: Entry(domains.release, is_privileged=True),
    MessageType.GET_DOMAIN_PATH: Entry(domains.get_domain_path),
    MessageType.WRITE: Entry(nodes.write),
    MessageType.MKDIR: Entry(nodes.mkdir),
    MessageType.RM: Entry(nodes.rm),
    MessageType.SET_PERMS: Entry(nodes.set_perms),
    MessageType.IS_DOMAIN_INTRODUCED: Entry(
        domains.is_domain_introduced, is_privileged=True
    ),
    MessageType.RESUME: Entry(domains.resume, is_privileged=True),
    MessageType.SET_TARGET: Entry(domains.set_target, is_privileged=True),
    MessageType.RESET_WATCHES: Entry(nodes.reset_watches),
    MessageType.DIRECTORY_PART: Entry(nodes.directory_part),
}

_TRACED_BYTES = 128
_BY_NUMBER = {int(kind): entry for kind, entry in OPERATIONS.items()}
_WATCH = int(MessageType.WATCH)
_ERROR = int(MessageType.ERROR)


def handle(
    connection: Client, kind: int, req_id: int, tx_id: int, payload: bytes
) -> None:
    """Do what a request asks, and queue the reply: a store's `handle`."""
    if connection.store.is_traced:
        _log.info(
            "domain %d: type %d, transaction %d: %r",
            *(connection.domid, kind, tx_id, payload[:_TRACED_BYTES]),
        )
    try:
        entry = _BY_NUMBER.get(kind)
        if entry is None:
            raise StoreError(errno.ENOSYS)
        if entry.is_privileged and not connection.is_privileged:
            raise StoreError(errno.EACCES)
        tx = None
        if tx_id and not entry.ignores_tx:
            tx = _transaction(connection, tx_id)
        result = entry.run(connection, tx, payload)
        if len(result) > PAYLOAD_MAX:
            raise StoreError(errno.E2BIG)
    except StoreError as error:
        connection.reply(_ERROR, req_id, tx_id, error.payload)
        return
    connection.reply(kind, req_id, tx_id, result)
    if kind == _WATCH:
        # A new watch fires once: the client need not look by itself.
        newest = next(reversed(connection.watches.values()))
        connection.send_event(newest, newest.parts)


def _transaction(connection: Client, tx_id: int) -> Transaction:
    tx = connection.transactions.get(tx_id)
    if tx is None:
        # A guest that was there before a restart is told to try again.
        known = errno.EAGAIN if connection.is_restored else errno.ENOENT
        raise StoreError(known)
    return tx
