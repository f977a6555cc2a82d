# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on nodes, watches and transactions.

A handler checks what it was sent and what its client may do, changes the
store, and returns the payload of the reply. It refuses with StoreError, whose
errno is what xenstored answers (tools/xenstored of xen.git).
"""

import errno

from xenstored import permissions
from xenstored.paths import ROOT, Parts, resolve
from xenstored.permissions import OWNER, READ, WRITE, Perms
from xenstored.quotas import (
    NAME_BYTES,
    PATH_BYTES,
    PERM_BYTES,
    check,
)
from xenstored.store import Client
from xenstored.transactions import Aspect, Transaction
from xenstored.tree import Node
from xenstored.watches import Watch
from xenstored.wire import (
    OK,
    PAYLOAD_MAX,
    StoreError,
    number,
    one_string,
    strings,
)

_TX_ID_MAX = (1 << 32) - 1
_NUMBER_MAX = (1 << 63) - 1


def _path(
    connection: Client, path: bytes, *, may_be_special: bool = False
) -> Parts:
    if not connection.is_privileged:
        # Before it is looked at: a long one costs time, and is remembered.
        depth = connection.store.quotas.depth
        if len(path) > depth:
            check(path.count(b"/"), depth)
    parts = resolve(path, connection.base)
    if parts[0] and not may_be_special:
        raise StoreError(errno.EINVAL)
    return parts


def _find(
    connection: Client,
    tx: Transaction | None,
    parts: Parts,
    need: int,
    aspect: int,
) -> Node | None:
    """The node with which a client may do what it needs; None: there is none.

    One that may not gets EACCES whether or not it exists. `aspect` is what a
    transaction then depends on.
    """
    if tx is None:
        node = connection.store.tree.get(parts)
    else:
        node = tx.tree.get(parts)
        _note(connection, tx, parts, aspect)
    if connection.is_privileged:
        return node
    return _permitted(connection, tx, parts, need, node)


def _permitted(
    connection: Client,
    tx: Transaction | None,
    parts: Parts,
    need: int,
    node: Node | None,
) -> Node | None:
    decides, where = node, parts
    if decides is None:
        # Whether it exists is for those to know who may do the like with
        # the nearest node above it.
        tree = tx.tree if tx is not None else connection.store.tree
        decides, depth = tree.nearest(parts)
        where = parts[:depth]
    if tx is not None:
        _note(connection, tx, where, Aspect.PERMS)
    if connection.access(decides.perms) & need != need:
        raise StoreError(errno.EACCES)
    return node


def _note(
    connection: Client, tx: Transaction, parts: Parts, aspect: int
) -> None:
    if not connection.is_privileged and parts not in tx.reads:
        limit = connection.store.quotas.transaction_nodes
        check(len(tx.reads) + 1, limit)
        _hold(connection, tx, PATH_BYTES + NAME_BYTES * len(parts))
    tx.note(parts, aspect)


def _hold(connection: Client, tx: Transaction, nr_bytes: int) -> None:
    """A transaction of a domain's is to remember so much more."""
    held_bytes = connection.held_bytes + nr_bytes
    if held_bytes > connection.store.quotas.transaction_bytes:
        raise StoreError(errno.ENOSPC)
    connection.held_bytes = held_bytes
    tx.held_bytes += nr_bytes


def _existing(
    connection: Client,
    tx: Transaction | None,
    parts: Parts,
    need: int,
    aspect: int,
) -> Node:
    node = _find(connection, tx, parts, need, aspect)
    if node is None:
        raise StoreError(errno.ENOENT)
    return node


# Nodes


def read(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    parts = _path(connection, one_string(payload))
    return _existing(connection, tx, parts, READ, Aspect.VALUE).value


def directory(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    parts = _path(connection, one_string(payload))
    node = _existing(connection, tx, parts, READ, Aspect.CHILDREN)
    return _names(node)


def _names(node: Node) -> bytes:
    return b"\0".join((*node.children, b"")) if node.children else b""


def directory_part(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    """Part of the list, from an offset, with the node's generation."""
    words = strings(payload)
    if len(words) != 2:
        raise StoreError(errno.EINVAL)
    parts = _path(connection, words[0])
    at = number(words[1], most=_NUMBER_MAX)
    node = _existing(connection, tx, parts, READ, Aspect.CHILDREN)
    names = _names(node)
    head = b"%d\0" % node.generation
    room = PAYLOAD_MAX - len(head) - 1
    rest = names[at:]
    if len(rest) <= room:
        # An empty string says that this is the end of the list.
        return head + rest + b"\0"
    return head + rest[: rest.rindex(b"\0", 0, room) + 1]


def get_perms(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    parts = _path(connection, one_string(payload), may_be_special=True)
    node = _existing(connection, tx, parts, READ, Aspect.PERMS)
    return permissions.unparse(node.perms)


def write(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    path, nul, value = payload.partition(b"\0")
    if not nul:
        raise StoreError(errno.EINVAL)
    parts = _path(connection, path)
    node = _find(connection, tx, parts, WRITE, Aspect.VALUE)
    if node is None:
        _create(connection, tx, parts, value)
        return OK
    if not connection.is_privileged:
        _check_size(connection, value, node.perms, node.names_bytes())
        if tx is not None:
            _hold(connection, tx, len(value))
    connection.store.write(tx, parts, value)
    return OK


def mkdir(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    parts = _path(connection, one_string(payload))
    if _find(connection, tx, parts, WRITE, Aspect.EXISTS) is None:
        _create(connection, tx, parts, b"")
    return OK


def _create(
    connection: Client,
    tx: Transaction | None,
    parts: Parts,
    value: bytes,
) -> None:
    """Make a node and the parents that it lacks, as far as quotas allow.

    Each inherits the permissions of the one above; unprivileged domains own
    what they make.
    """
    store = connection.store
    tree = tx.tree if tx is not None else store.tree
    above, depth = tree.nearest(parts)
    perms = above.perms
    if tx is not None:
        for end in range(depth + 1, len(parts) + 1):
            _note(connection, tx, parts[:end], Aspect.EXISTS)
        _note(connection, tx, parts[:depth], Aspect.PERMS)
    if not connection.is_privileged:
        perms = ((connection.domid, perms[0][1]), *perms[1:])
        nr_new = len(parts) - depth
        owned = store.nodes_of(connection.domid, tx)
        check(owned + nr_new, store.quotas.nodes)
        names = above.names_bytes() + len(parts[depth]) + 1
        _check_size(connection, above.value, above.perms, names)
        _check_size(connection, value, perms, 0)
        if tx is not None:
            _hold(connection, tx, len(value))
    store.create(tx, parts, value, perms, depth=depth)


def _check_size(
    connection: Client, value: bytes, perms: Perms, names_bytes: int
) -> None:
    size = len(value) + PERM_BYTES * len(perms) + names_bytes
    check(size, connection.store.quotas.node_size)


def rm(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    parts = _path(connection, one_string(payload))
    node = _find(connection, tx, parts, WRITE, Aspect.SUBTREE)
    if node is None:
        tree = tx.tree if tx is not None else connection.store.tree
        if tx is not None:
            _note(connection, tx, parts[:-1], Aspect.EXISTS)
        if tree.get(parts[:-1]) is None:
            raise StoreError(errno.ENOENT)
        return OK
    if parts == ROOT:
        raise StoreError(errno.EINVAL)
    connection.store.remove(tx, parts)
    return OK


def set_perms(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    words = strings(payload)
    if len(words) < 2:
        raise StoreError(errno.EINVAL)
    parts = _path(connection, words[0], may_be_special=True)
    if not connection.is_privileged:
        check(len(words) - 1, connection.store.quotas.permissions)
    perms = permissions.parse(words[1:])
    aspect = Aspect.EXISTS | Aspect.PERMS
    node = _existing(connection, tx, parts, WRITE | OWNER, aspect)
    if not connection.is_privileged and perms[0][0] != node.perms[0][0]:
        raise StoreError(errno.EPERM)
    connection.store.set_perms(tx, parts, perms)
    return OK


# Watches


def watch(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    path, token, *more = _watch_words(payload, most=3)
    parts = _path(connection, path, may_be_special=True)
    depth = number(more[0], most=_NUMBER_MAX) if more else None
    if (parts, token) in connection.watches:
        raise StoreError(errno.EEXIST)
    if not connection.is_privileged:
        limit = connection.store.quotas.watches
        check(len(connection.watches) + 1, limit)
    is_relative = path[:1] not in (b"/", b"@")
    prefix_bytes = len(connection.base) + 1 if is_relative else 0
    new = Watch(connection, parts, token, depth, path, prefix_bytes)
    connection.store.add_watch(new)
    return OK


def _watch_words(payload: bytes, *, most: int) -> list[bytes]:
    words = strings(payload)
    if not 2 <= len(words) <= most:
        raise StoreError(errno.EINVAL)
    return words


def unwatch(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    path, token = _watch_words(payload, most=2)
    parts = _path(connection, path, may_be_special=True)
    found = connection.watches.get((parts, token))
    if found is None:
        raise StoreError(errno.ENOENT)
    connection.store.remove_watch(found)
    return OK


def reset_watches(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    connection.store.reset(connection)
    return OK


# Transactions


def transaction_start(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    if tx is not None:
        raise StoreError(errno.EBUSY)
    held = connection.transactions
    if not connection.is_privileged:
        check(len(held) + 1, connection.store.quotas.transactions)
    while connection.next_tx_id in held or connection.next_tx_id == 0:
        connection.next_tx_id = (connection.next_tx_id + 1) & _TX_ID_MAX
    tx_id = connection.next_tx_id
    connection.next_tx_id = (tx_id + 1) & _TX_ID_MAX
    held[tx_id] = tx = Transaction.start(connection.store.tree)
    if not connection.is_privileged:
        connection.store.aging[tx] = None
    return b"%d\0" % tx_id


def transaction_end(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    if payload not in (b"T\0", b"F\0"):
        raise StoreError(errno.EINVAL)
    if tx is None:
        raise StoreError(errno.ENOENT)
    held = connection.transactions
    del held[next(tx_id for tx_id, each in held.items() if each is tx)]
    connection.store.aging.pop(tx, None)
    connection.held_bytes -= tx.held_bytes
    if payload == b"F\0":
        return OK
    store = connection.store
    if tx.conflicts(store.tree):
        raise StoreError(errno.EAGAIN)
    owner = connection.domid
    if not connection.is_privileged and tx.tree.nr_nodes.get(owner, 0) > 0:
        check(store.nodes_of(owner, tx), store.quotas.nodes)
    store.commit(tx)
    return OK
