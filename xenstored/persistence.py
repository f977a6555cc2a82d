# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole store as journal records, and a store from such records."""

from collections.abc import Iterator

from xenstored import journal, permissions
from xenstored.journal import Batch, Journal, Record, encode
from xenstored.paths import resolve
from xenstored.requests import handle
from xenstored.store import SPECIAL_NODES, Store
from xenstored.tree import walk
from xenstored.watches import Watch


def dump(store: Store) -> Iterator[bytes]:
    """Batches that rebuild the store as it is at the first `next()`.

    The store may change while the rest is taken.
    """
    root = store.tree.snapshot()
    others = list(_domain_records(store))
    yield journal.batch([encode(Record.START, b"%d" % store.nr_starts)])
    for parts, node in walk(root, ()):
        if parts:
            yield journal.batch(
                [journal.encode_node(parts, node.perms, node.value)]
            )
    for record in others:
        yield journal.batch([record])


def _domain_records(store: Store) -> Iterator[bytes]:
    domains = store.domains.values()
    for domain in domains:
        numbers = (domain.domid, domain.gfn, domain.port)
        yield encode(Record.INTRODUCED, *(b"%d" % each for each in numbers))
        for watch in domain.connection.watches.values():
            yield journal.encode_watch(domain.domid, watch)
    for domain in domains:
        if (target := domain.connection.target) is not None:
            pair = (domain.domid, target)
            yield encode(Record.TARGET, *(b"%d" % each for each in pair))


def restore(data: bytes) -> tuple[Store, int]:
    """A store from a file's contents, and how many bytes were of use.

    Domains are there without their rings, with watches that fire once.
    """
    read = list(journal.batches(data))
    if not read or read[0][1][0][0] is not Record.START:
        return Store(handle), 0
    nr_starts = int(read[0][1][0][1][0]) + 1
    store = Store(handle, nr_starts=nr_starts, creates_nodes=False)
    for _, batch in read[1:]:
        _apply(store, batch)
    # Without the special nodes nobody could be told of domains.
    store.create_nodes(SPECIAL_NODES)
    for domain in store.domains.values():
        domain.connection.is_restored = True
        for watch in domain.connection.watches.values():
            domain.connection.send_event(watch, watch.parts)
    return store, read[-1][0]


def _apply(store: Store, batch: Batch) -> None:
    for kind, fields in batch:
        match kind:
            case Record.NODE:
                _apply_node(store, *fields)
            case Record.REMOVED:
                # A transaction may have made it, too, or taken it out with
                # what stood above.
                parts = resolve(fields[0], b"")
                if store.tree.get(parts) is not None:
                    store.tree.remove(parts)
            case Record.INTRODUCED:
                domid, gfn, port = (int(each) for each in fields)
                store.introduce(domid, gfn, port)
            case Record.RELEASED:
                # Its nodes have records of their own.
                domain = store.domains.pop(int(fields[0]))
                domain.connection.drop_held()
            case Record.TARGET:
                store.set_target(int(fields[0]), int(fields[1]))
            case Record.START:
                raise ValueError("a second beginning in a journal")
            case _:
                _apply_watch(store, kind, fields)


def _apply_node(
    store: Store, path: bytes, entries: bytes, value: bytes
) -> None:
    parts = resolve(path, b"")
    perms = permissions.parse(entries.split(b"\0")[:-1])
    node = store.tree.get(parts)
    if node is None:
        store.tree.create(parts, value, perms)
        return
    if node.value != value:
        store.tree.write(parts, value)
    if node.perms != perms:
        store.tree.set_perms(parts, perms)


def _apply_watch(store: Store, kind: Record, fields: list[bytes]) -> None:
    connection = store.domains[int(fields[0])].connection
    match kind, fields[1:]:
        case Record.WATCH, [path, token, depth]:
            is_relative = path[:1] not in (b"/", b"@")
            watch = Watch(
                connection,
                resolve(path, connection.base),
                token,
                int(depth) if depth else None,
                path,
                len(connection.base) + 1 if is_relative else 0,
            )
            store.add_watch(watch)
        case Record.UNWATCH, [path, token]:
            key = resolve(path, b""), token
            store.remove_watch(connection.watches[key])
        case _:
            store.reset(connection)


def kept(store: Store) -> Store:
    """The same store, whose changes are journalled from now on."""
    store.journal = Journal(is_kept=True)
    return store
