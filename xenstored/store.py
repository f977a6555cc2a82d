# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: tree, watches, domains and connections as one thing.

Pure: neither files nor sockets. Operations (operations.py) decide what is
allowed and change the store through the methods here, which keep watches,
counters and the journal in step.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xenstored import permissions
from xenstored.connection import Connection
from xenstored.journal import Journal, Record
from xenstored.paths import ROOT, Parts, home, joined, resolve
from xenstored.permissions import OWNER, READ, WRITE, Perms
from xenstored.quotas import Quotas
from xenstored.transactions import Change, Transaction
from xenstored.tree import Node, Tree, walk
from xenstored.watches import (
    INTRODUCE_DOMAIN,
    RELEASE_DOMAIN,
    Watch,
    WatchTable,
)

_FIRST_PERMS: Perms = ((0, permissions.NONE),)
# What xenstored makes at its start: setup_structure() in
# tools/xenstored/core.c.
SPECIAL_NODES = (INTRODUCE_DOMAIN, RELEASE_DOMAIN)
_FIRST_NODES = (b"/tool", b"/tool/xenstored")
# What xen-init-dom0 writes at boot: tools/helpers/init-dom0.c.
_DOM0_NODES = (
    (b"/local/domain/0/domid", b"0"),
    (b"/local/domain/0/name", b"Domain-0"),
)
_GENERATIONS_PER_START = 1 << 40
_TX_IDS_PER_START = 1 << 16
_TX_ID_MAX = (1 << 32) - 1


Handle = Callable[["Client", int, int, int, bytes], None]


class Client(Connection):
    """A connection to this store: whose it is, and what it holds there."""

    def __init__(
        self, store: "Store", domid: int, *, is_privileged: bool
    ) -> None:
        super().__init__(store.quotas, is_privileged=is_privileged)
        self.store = store
        self.domid = domid
        self.base = home(domid)
        self.target: int | None = None
        """The domain that SET_TARGET lets it stand for."""
        self.is_ring = False
        """A domain's own connection, which outlives the store's process."""
        self.is_restored = False
        """It was there before a restart, and may name transactions of then."""
        self.is_open = True
        self.watches: dict[tuple[Parts, bytes], Watch[Client]] = {}
        self.transactions: dict[int, Transaction] = {}
        self.held_bytes = 0
        """What they remember, about, where it is a domain's."""
        self.next_tx_id = 1

    def access(self, perms: Perms) -> int:
        """What it may do with a node of these permissions."""
        if self.is_privileged:
            return READ | WRITE | OWNER
        return permissions.access(perms, self.domid, self.target)

    def drop_held(self) -> None:
        """Its watches and transactions are gone."""
        for watch in self.watches.values():
            self.store.watches.remove(watch)
        self.watches.clear()
        for tx in self.transactions.values():
            self.store.aging.pop(tx, None)
        self.held_bytes = 0
        self.transactions.clear()

    def reset(self) -> None:
        """As if it had just connected: nothing held, nothing half-received."""
        self.drop_held()
        super().reset()

    def _handle(
        self, kind: int, req_id: int, tx_id: int, payload: bytes
    ) -> None:
        self.store.handle(self, kind, req_id, tx_id, payload)

    def _has_first_output(self) -> None:
        self.store.wanted(self)


@dataclass(slots=True, eq=False)
class Domain:
    """A domain that was introduced: a guest that talks through its ring."""

    domid: int
    gfn: int
    port: int
    connection: Client
    is_shutdown: bool = False


def _nothing(_: object) -> None:
    pass


class Store:
    """All state of one xenstore.

    The shell around it sets three callbacks: `attach` connects the ring of a
    domain that is introduced, and raises OSError if that cannot be; `detach`
    lets go of it; `wanted` says that a connection has output.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        journal: Journal | None = None,
        nr_starts: int = 0,
        creates_nodes: bool = True,
    ) -> None:
        self.handle = handle
        self.journal = journal or Journal()
        self.nr_starts = nr_starts
        self.tree = Tree.with_root(
            first_generation=nr_starts * _GENERATIONS_PER_START + 1,
            perms=_FIRST_PERMS,
        )
        self.watches: WatchTable[Client] = WatchTable()
        self.domains: dict[int, Domain] = {}
        self.quotas = Quotas()
        self.aging: dict[Transaction, None] = {}
        """Domains' open transactions, the one that began first first."""
        self.is_traced = False
        """Is each request to be logged?"""
        self.attach: Callable[[Domain], None] = _nothing
        self.detach: Callable[[Domain], None] = _nothing
        self.wanted: Callable[[Client], None] = _nothing
        if creates_nodes:
            self.create_nodes((*SPECIAL_NODES, *_FIRST_NODES))

    def create_nodes(self, paths: Iterable[bytes]) -> None:
        """Make those nodes that do not exist, for domain 0."""
        for path in paths:
            parts = resolve(path, b"")
            if self.tree.get(parts) is None:
                self.tree.create(parts, b"", _FIRST_PERMS)

    def write_dom0(self) -> None:
        """Make domain 0's own nodes, where a restart has not kept them."""
        for path, value in _DOM0_NODES:
            parts = resolve(path, b"")
            if self.tree.get(parts) is None:
                _, depth = self.tree.nearest(parts)
                self.create(None, parts, value, _FIRST_PERMS, depth=depth)

    # Connections

    def connect(self, domid: int, *, is_privileged: bool) -> Client:
        """A new client; `disconnect` it when its transport has ended."""
        connection = Client(self, domid, is_privileged=is_privileged)
        connection.next_tx_id += self.nr_starts * _TX_IDS_PER_START % _TX_ID_MAX
        return connection

    def disconnect(self, connection: Client) -> None:
        """A client is gone, and what it held with it."""
        connection.reset()
        connection.is_open = False

    # Nodes

    def nodes_of(self, domid: int, tx: Transaction | None) -> int:
        """How many nodes a domain owns, as `tx` would leave it."""
        own = self.tree.nr_nodes.get(domid, 0)
        return own + tx.tree.nr_nodes.get(domid, 0) if tx else own

    def write(self, tx: Transaction | None, parts: Parts, value: bytes) -> None:
        """Give an existing node a value."""
        if tx is not None:
            tx.tree.write(parts, value)
            tx.changed(parts, Change.VALUE)
            tx.events[parts] = True
            return
        node = self.tree.write(parts, value)
        self.journal.note_node(parts, node.perms, value)
        self.journal.seal()
        self.fire(parts, node.perms)

    def create(
        self,
        tx: Transaction | None,
        parts: Parts,
        value: bytes,
        perms: Perms,
        *,
        depth: int,
    ) -> None:
        """Make a node, and its parents from the one with `depth` + 1 parts."""
        tree = tx.tree if tx is not None else self.tree
        for end in range(depth + 1, len(parts) + 1):
            made, contents = parts[:end], b"" if end < len(parts) else value
            tree.create(made, contents, perms)
            if tx is not None:
                tx.changed(made, Change.CREATED)
            else:
                self.journal.note_node(made, perms, contents)
        if tx is not None:
            tx.events[parts] = True
            return
        self.journal.seal()
        self.fire(parts, perms)

    def remove(self, tx: Transaction | None, parts: Parts) -> None:
        """Take out an existing node with all below it."""
        tree = tx.tree if tx is not None else self.tree
        gone = tree.remove(parts)
        if tx is not None:
            # Below, only watches of the very path are concerned: those of
            # ancestors are told of the highest node alone.
            for path in _upwards(gone, parts):
                tx.events.setdefault(path, False)
            tx.events[parts] = True
            tx.changed(parts, Change.REMOVED)
            return
        self.journal.note(Record.REMOVED, joined(parts))
        self.journal.seal()
        above = self.tree.get(parts[:-1])
        nodes = dict(walk(gone, parts))
        for path in _upwards(gone, parts):
            if path is not parts and (watches := self.watches.at(path)):
                seen_by = (nodes[path].perms, nodes[path[:-1]].perms)
                self._notify(watches, path, seen_by)
        self.fire(parts, gone.perms, above.perms if above else gone.perms)

    def set_perms(
        self, tx: Transaction | None, parts: Parts, perms: Perms
    ) -> None:
        """Give an existing node permissions."""
        if tx is not None:
            tx.tree.set_perms(parts, perms)
            tx.changed(parts, Change.PERMS)
            tx.events[parts] = True
            return
        old = self.tree.get(parts)
        # Domains that may read it no more are told as well.
        before = old.perms if old else perms
        node = self.tree.set_perms(parts, perms)
        self.journal.note_node(parts, perms, node.value)
        self.journal.seal()
        self.fire(parts, perms, before)

    def commit(self, tx: Transaction) -> None:
        """Make a transaction's changes all at once; it has no conflict."""
        tx.commit(self.tree)
        for parts, change, node in tx.outcome():
            if change & Change.REMOVED:
                self.journal.note(Record.REMOVED, joined(parts))
            if node is not None and (now := self.tree.get(parts)) is not None:
                # Not `node`: others may have changed what this one did not.
                self.journal.note_node(parts, now.perms, now.value)
        self.journal.seal()
        for parts, is_subtree in tx.events.items():
            known = (self.tree.get(parts), tx.base_node(parts))
            seen_by = tuple(node.perms for node in known if node is not None)
            if not seen_by:
                continue  # made and removed again: nobody ever saw it
            if is_subtree:
                self.fire(parts, *seen_by)
            else:
                self._notify(self.watches.at(parts), parts, seen_by)

    def expire(self) -> None:
        """Let go of what domains' transactions alone have seen for too long.

        Each keeps the store as it was when it began, and anybody's changes
        since then would be kept as well, for as long as a domain likes.
        """
        if not self.aging:
            return
        now = next(self.tree.generations)
        while True:
            tx = next(iter(self.aging))
            if now - tx.since < self.quotas.transaction_changes:
                return
            del self.aging[tx]
            tx.renew(self.tree)
            self.aging[tx] = None

    # Watches

    def add_watch(self, watch: Watch[Client]) -> None:
        holder = watch.holder
        self.watches.add(watch)
        holder.watches[watch.parts, watch.token] = watch
        if holder.is_ring:
            self.journal.note_watch(holder.domid, watch)
            self.journal.seal()

    def remove_watch(self, watch: Watch[Client]) -> None:
        holder = watch.holder
        self.watches.remove(watch)
        del holder.watches[watch.parts, watch.token]
        if holder.is_ring:
            domid = b"%d" % holder.domid
            path = joined(watch.parts)
            self.journal.note(Record.UNWATCH, domid, path, watch.token)
            self.journal.seal()

    def reset(self, connection: Client) -> None:
        """A client's watches and transactions are dropped at its wish."""
        connection.drop_held()
        if connection.is_ring:
            self.journal.note(Record.RESET, b"%d" % connection.domid)
            self.journal.seal()

    def fire(self, parts: Parts, *perms: Perms) -> None:
        """A node has changed: tell the watches that see it.

        Those without privilege must be allowed to read by one of `perms` or
        by those of the node's parent.
        """
        self._notify(self.watches.seeing(parts), parts, perms)

    def _notify(
        self,
        watches: Iterable[Watch[Client]],
        parts: Parts,
        perms: tuple[Perms, ...],
    ) -> None:
        for watch in watches:
            holder = watch.holder
            if not holder.is_privileged:
                parent = self.tree.get(parts[:-1])
                seen_by = (*perms, parent.perms) if parent else perms
                if not any(holder.access(each) & READ for each in seen_by):
                    continue
            holder.send_event(watch, parts)

    def _fire_special(self, name: bytes, domid: int) -> None:
        node = self.tree.get((name,))
        for watch, parts in self.watches.special(name, domid):
            holder = watch.holder
            if holder.is_privileged or (
                node is not None and holder.access(node.perms) & READ
            ):
                holder.send_event(watch, parts)

    # Domains

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Take up talking to a domain, or do so again over another port.

        Raises OSError if its ring cannot be had.
        """
        domain = self.domains.get(domid)
        is_new = domain is None
        if domain is None:
            connection = self.connect(domid, is_privileged=domid == 0)
            connection.is_ring = True
            domain = Domain(domid, gfn, port, connection)
        else:
            self.detach(domain)
            domain.gfn, domain.port = gfn, port
        domain.connection.reset()
        self.attach(domain)
        self.domains[domid] = domain
        numbers = (b"%d" % number for number in (domid, gfn, port))
        self.journal.note(Record.INTRODUCED, *numbers)
        self.journal.seal()
        if is_new and domid != 0:
            self._fire_special(INTRODUCE_DOMAIN, domid)

    def release(self, domid: int) -> None:
        """Forget an introduced domain, its nodes and its permissions."""
        domain = self.domains.pop(domid)
        self.detach(domain)
        self.disconnect(domain.connection)
        for other in self.domains.values():
            if other.connection.target == domid:
                other.connection.target = None
        self.journal.is_held = True
        self.journal.note(Record.RELEASED, b"%d" % domid)
        self._uproot(domid)
        self.journal.is_held = False
        self.journal.seal()
        self._fire_special(RELEASE_DOMAIN, domid)

    def shut_down(self, domid: int) -> None:
        """An introduced domain has ended or crashed, and is still there."""
        domain = self.domains.get(domid)
        if domain is not None and not domain.is_shutdown:
            domain.is_shutdown = True
            self._fire_special(RELEASE_DOMAIN, domid)

    def set_target(self, domid: int, target: int) -> None:
        """Let one introduced domain do what another one may."""
        self.domains[domid].connection.target = target
        numbers = (b"%d" % number for number in (domid, target))
        self.journal.note(Record.TARGET, *numbers)
        self.journal.seal()

    def _uproot(self, domid: int) -> None:
        """A domain's number may come again: nothing may be left for it."""
        removed: Parts | None = None
        for parts, node in list(walk(self.tree.root, ()))[1:]:
            if removed is not None and parts[: len(removed)] == removed:
                continue
            if node.perms[0][0] == domid and parts != ROOT:
                self.remove(None, parts)
                removed = parts
            elif any(entry == domid for entry, _ in node.perms):
                perms = permissions.without(node.perms, domid)
                self.tree.set_perms(parts, perms)
                self.journal.note_node(parts, perms, node.value)


def _upwards(node: Node, parts: Parts) -> list[Parts]:
    """The paths of a node and all below it, each after its children."""
    return [path for path, _ in walk(node, parts)][::-1]
