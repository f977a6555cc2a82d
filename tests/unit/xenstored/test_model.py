# SPDX-License-Identifier: GPL-2.0-or-later
"""The store against a simple model, step by step, with its journal."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from tests.support.storeclient import Client, RefusedError
from tests.unit.xenstored.model import (
    ModelNode,
    ModelTable,
    ModelTransaction,
    above,
    contents,
    is_below,
)
from xenstored.control import problems
from xenstored.journal import Journal
from xenstored.persistence import dump, kept, restore
from xenstored.requests import handle
from xenstored.store import Store

# Few, so that transactions meet each other.
PATHS = st.sampled_from([b"/a", b"/a/b", b"/a/c", b"/a/b/d", b"/e/f/g"])
VALUES = st.sampled_from([b"", b"x", b"yy", b"\0z"])
PERMS = st.sampled_from([(b"n0",), (b"b3", b"r4"), (b"n0", b"w3"), (b"r5",)])
WHERE = st.integers(0, 3)
"""0: outside of transactions; else one of those that are open."""


class StoreMachine(RuleBasedStateMachine):
    """Privileged clients only: what others may not is tested by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.store = kept(Store(handle))
        self.journal = b"".join(dump(self.store))
        self.client = Client(self.store)
        self.watcher = Client(self.store)
        self.table = ModelTable({})
        for path, (value, perms) in contents(self.store).items():
            words = tuple(perms.split(b"\0")[:-1])
            self.table.nodes[path] = ModelNode(value, words, 0, 0, 0)
        self.transactions: dict[int, ModelTransaction] = {}
        self.watches: dict[tuple[bytes, bytes], int | None] = {}
        self.expected: set[tuple[bytes, bytes]] = set()

    # What the model says

    def pick(self, where: int) -> tuple[int, ModelTransaction | None]:
        ids = list(self.transactions)
        if not where or not ids:
            return 0, None
        tx = ids[where % len(ids)]
        return tx, self.transactions[tx]

    def expect(self, path: bytes, *, is_exact: bool = False) -> None:
        """The events of a change at a path."""
        for (watched, token), depth in self.watches.items():
            below = path.count(b"/") - watched.count(b"/")
            below += (watched == b"/") - (path == b"/")
            if is_exact:
                sees = path == watched
            else:
                sees = is_below(path, watched) and (
                    depth is None or below <= depth
                )
            if sees:
                self.expected.add((path, token))

    def look(
        self, model: ModelTransaction | None, *looked: tuple[bytes, str]
    ) -> ModelTable:
        if model is None:
            return self.table
        model.looked.update(looked)
        return model.table

    def look_to_make(self, model: ModelTransaction | None, path: bytes) -> None:
        if model is not None:
            while above(path) not in model.table.nodes:
                path = above(path)
            model.looked.add((path, "exists"))
            model.looked.add((above(path), "perms"))

    def do(
        self, what: str, path: bytes, table: ModelTable, more: object
    ) -> None:
        match what:
            case "write":
                assert isinstance(more, bytes)
                table.write(path, more)
            case "mkdir":
                table.make(path)
            case "rm":
                table.remove(path)
            case _:
                assert isinstance(more, tuple)
                table.set_perms(path, more)

    def change(
        self,
        model: ModelTransaction | None,
        what: str,
        path: bytes,
        more: object = None,
    ) -> None:
        if model is not None:
            model.done.append((what, path, more))
            self.do(what, path, model.table, more)
            return
        self.tell(what, path)
        self.do(what, path, self.table, more)

    def tell(self, what: str, path: bytes) -> None:
        if what == "rm":
            for each in self.table.nodes:
                if is_below(each, path):
                    self.expect(each, is_exact=each != path)
        else:
            self.expect(path)

    # What clients do

    @rule(path=PATHS, value=VALUES, where=WHERE)
    def write(self, path: bytes, value: bytes, where: int) -> None:
        tx, model = self.pick(where)
        table = self.look(model, (path, "value"))
        if path not in table.nodes:
            self.look_to_make(model, path)
        self.change(model, "write", path, value)
        self.client.write(path, value, tx=tx)

    @rule(path=PATHS, where=WHERE)
    def mkdir(self, path: bytes, where: int) -> None:
        tx, model = self.pick(where)
        table = self.look(model, (path, "exists"))
        if path not in table.nodes:
            self.look_to_make(model, path)
            self.change(model, "mkdir", path)
        self.client.mkdir(path, tx=tx)

    @rule(path=PATHS, where=WHERE)
    def rm(self, path: bytes, where: int) -> None:
        tx, model = self.pick(where)
        table = self.look(model, (path, "subtree"))
        if path in table.nodes:
            self.change(model, "rm", path)
            self.client.rm(path, tx=tx)
            return
        self.look(model, (above(path), "exists"))
        if above(path) in table.nodes:
            self.client.rm(path, tx=tx)
        else:
            self.refused("ENOENT", lambda: self.client.rm(path, tx=tx))

    @rule(path=PATHS, perms=PERMS, where=WHERE)
    def set_perms(
        self, path: bytes, perms: tuple[bytes, ...], where: int
    ) -> None:
        tx, model = self.pick(where)
        table = self.look(model, (path, "exists"), (path, "perms"))
        if path in table.nodes:
            self.change(model, "set_perms", path, perms)
            self.client.set_perms(path, *perms, tx=tx)
        else:
            self.refused(
                "ENOENT", lambda: self.client.set_perms(path, *perms, tx=tx)
            )

    @rule(path=PATHS, where=WHERE)
    def read(self, path: bytes, where: int) -> None:
        tx, model = self.pick(where)
        node = self.look(model, (path, "value")).nodes.get(path)
        if node is None:
            self.refused("ENOENT", lambda: self.client.read(path, tx=tx))
        else:
            assert self.client.read(path, tx=tx) == node.value

    @rule(path=PATHS | st.just(b"/"), where=WHERE)
    def directory(self, path: bytes, where: int) -> None:
        tx, model = self.pick(where)
        table = self.look(model, (path, "names"))
        if path not in table.nodes:
            self.refused("ENOENT", lambda: self.client.directory(path, tx=tx))
            return
        names = self.client.directory(path, tx=tx)
        assert len(names) == len(set(names))
        assert set(names) == table.names(path)

    @rule(path=PATHS, where=WHERE)
    def get_perms(self, path: bytes, where: int) -> None:
        tx, model = self.pick(where)
        node = self.look(model, (path, "perms")).nodes.get(path)
        if node is None:
            self.refused("ENOENT", lambda: self.client.get_perms(path, tx=tx))
        else:
            assert tuple(self.client.get_perms(path, tx=tx)) == node.perms

    @precondition(lambda self: len(self.transactions) < 3)
    @rule()
    def start(self) -> None:
        nodes = self.table.nodes
        model = ModelTransaction(dict(nodes), ModelTable(dict(nodes)))
        self.transactions[self.client.start()] = model

    @precondition(lambda self: self.transactions)
    @rule(where=WHERE, is_commit=st.sampled_from([True, True, True, False]))
    def end(self, where: int, is_commit: bool) -> None:
        tx, model = self.pick(where or 1)
        assert model is not None
        del self.transactions[tx]
        if not is_commit:
            self.client.end(tx, commit=False)
        elif model.conflicts(self.table.nodes):
            self.refused("EAGAIN", lambda: self.client.end(tx))
        else:
            self.end_well(tx, model)

    def end_well(self, tx: int, model: ModelTransaction) -> None:
        before = dict(self.table.nodes)
        for what, path, more in model.done:
            nodes = self.table.nodes
            told = [p for p in nodes if is_below(p, path)]
            self.do(what, path, self.table, more)
            if what != "rm":
                told = [path]
            for each in told:
                self.expect(each, is_exact=what == "rm" and each != path)
        # Nobody is told of what was made and removed again.
        now = self.table.nodes
        self.expected = {
            (path, token)
            for path, token in self.expected
            if path in before or path in now
        }
        self.client.end(tx)

    @precondition(lambda self: len(self.watches) < 4)
    @rule(
        path=PATHS | st.just(b"/"),
        token=st.sampled_from([b"t", b"u"]),
        depth=st.sampled_from([None, 0, 1, 2]),
    )
    def watch(self, path: bytes, token: bytes, depth: int | None) -> None:
        words = () if depth is None else (b"%d" % depth,)
        if (path, token) in self.watches:
            self.refused(
                "EEXIST", lambda: self.watcher.watch(path, token, *words)
            )
            return
        self.watches[path, token] = depth
        self.expected.add((path, token))
        self.watcher.watch(path, token, *words)

    def refused(self, name: str, call: Callable[[], object]) -> None:
        with pytest.raises(RefusedError, match=f"^{name}$"):
            call()

    # What must be true after each step

    @invariant()
    def nodes_are_those_of_the_model(self) -> None:
        assert contents(self.store) == {
            path: (node.value, b"".join(word + b"\0" for word in node.perms))
            for path, node in self.table.nodes.items()
        }
        assert problems(self.store) == []

    @invariant()
    def events_are_those_of_the_model(self) -> None:
        assert set(self.watcher.events()) == self.expected
        self.expected = set()

    @invariant()
    def journal_gives_the_same_store(self) -> None:
        self.journal += self.store.journal.take()
        for data in (self.journal, b"".join(dump(self.store))):
            again, used = restore(data)
            assert used == len(data)
            assert contents(again) == contents(self.store)
            assert (
                again.tree.nr_nodes
                == {owner: nr for owner, nr in self.store.tree.nr_nodes.items()}
                or problems(again) == []
            )


StoreMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None
)
test_store_does_what_the_model_says = StoreMachine.TestCase


def test_journal_that_is_not_wanted_keeps_nothing() -> None:
    store = Store(handle, journal=Journal())
    Client(store).write(b"/a", b"x")
    assert store.journal.take() == b""
