# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restarted store knows, wherever the last one was cut off."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.storeclient import Client, RefusedError
from tests.unit.xenstored.model import contents
from xenner.errors import HostError
from xenstored import journal, statefile
from xenstored.control import problems
from xenstored.persistence import dump, kept, restore
from xenstored.requests import handle
from xenstored.statefile import StateFile
from xenstored.store import Store
from xenstored.wire import MessageType as Is


def busy_store() -> tuple[Store, bytes, list[tuple[int, object]]]:
    """A store with a history; its journal, and what was true at each length."""
    store = kept(Store(handle))
    data = b"".join(dump(store))
    states: list[tuple[int, object]] = [(len(data), state_of(store))]
    dom0 = Client(store)

    def note() -> None:
        nonlocal data
        data += store.journal.take()
        states.append((len(data), state_of(store)))

    dom0.write(b"/local/domain/3/name", b"one")
    note()
    dom0.set_perms(b"/local/domain/3", b"n3", b"r0")
    note()
    dom0.ask(Is.INTRODUCE, b"3", b"-7", b"9")
    note()
    guest = Client.ring(store, 3)
    guest.watch(b"device", b"tok en", b"2")
    note()
    guest.watch(b"/abs", b"t")
    note()
    tx = dom0.start()
    dom0.write(b"/a/b/c", b"\0\1\2", tx=tx)
    dom0.rm(b"/local/domain/3/name", tx=tx)
    dom0.end(tx)
    note()
    guest.ask(Is.UNWATCH, b"/abs", b"t")
    note()
    dom0.ask(Is.INTRODUCE, b"4", b"1", b"1")
    note()
    dom0.ask(Is.SET_TARGET, b"4", b"3")
    note()
    dom0.rm(b"/a/b")
    note()
    guest.write(b"x/y", b"z")
    note()
    tx = dom0.start()
    dom0.write(b"/local/domain/3/x", b"inside", tx=tx)
    Client(store).set_perms(b"/local/domain/3/x", b"n3", b"r4", b"r5")
    note()
    dom0.end(tx)
    note()
    for path in (b"/local/domain/4/a", b"/local/domain/5/a"):
        dom0.write(path, b"")
        note()
        dom0.set_perms(path, b"n4")
        note()
    # Many nodes and entries, one change.
    dom0.ask(Is.RELEASE, b"4")
    note()
    return store, data, states


def state_of(store: Store) -> object:
    """All that must survive, in a form that can be compared."""
    return (
        contents(store),
        {
            domid: (
                *(domain.gfn, domain.port, domain.connection.target),
                [
                    (key, watch.path, watch.depth)
                    for key, watch in domain.connection.watches.items()
                ],
            )
            for domid, domain in store.domains.items()
        },
    )


def test_cut_at_every_byte_the_last_whole_change_counts() -> None:
    _, data, states = busy_store()
    first = states[0][0]
    for end in range(len(data) + 1):
        store, used = restore(data[:end])
        assert used <= end
        assert problems(store) == []
        if end >= first:
            assert state_of(store) == [s for at, s in states if at <= end][-1]
            assert used == [at for at, _ in states if at <= end][-1]


@pytest.mark.parametrize("step", [1, 7])
def test_damaged_byte_ends_the_history_there(step: int) -> None:
    _, data, states = busy_store()
    known = [state for _, state in states]
    for at in range(states[0][0], len(data), step):
        bad = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        store, used = restore(bad)
        assert used <= at
        assert state_of(store) in known


def test_dump_is_all() -> None:
    store, _, _ = busy_store()
    again, _ = restore(b"".join(dump(store)))
    assert state_of(again) == state_of(store)


def test_store_may_change_while_it_is_dumped() -> None:
    store, _, _ = busy_store()
    state = state_of(store)
    batches = dump(store)
    first = next(batches)
    Client(store).rm(b"/local")
    Client(store).write(b"/tool/new", b"")
    store.release(3)
    again, _ = restore(first + b"".join(batches))
    assert state_of(again) == state


def test_generations_do_not_come_again() -> None:
    store, data, _ = busy_store()
    again, _ = restore(data)
    newest = max(node.generation for node in store.tree.root.children.values())
    assert next(again.tree.generations) > newest


def test_guest_goes_on_after_a_restart() -> None:
    _, data, _ = busy_store()
    store, _ = restore(data)
    guest = Client.ring(store, 3)
    # It may have missed something, so each of its watches fires.
    assert guest.events() == [(b"device", b"tok en")]
    Client(store).write(b"/local/domain/3/device/vbd", b"")
    assert guest.events() == [(b"device/vbd", b"tok en")]
    with pytest.raises(RefusedError, match="EAGAIN"):
        guest.ask(Is.TRANSACTION_END, b"T", tx=1)
    assert guest.start() > 1 << 16


def test_file(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "deep/er", sync=True)
    Client(state.store).write(b"/a", b"1")
    state.save()
    Client(state.store).write(b"/not-saved", b"1")
    state.close()
    again = StateFile(tmp_path / "deep/er")
    assert again.store.nr_starts == state.store.nr_starts + 1
    assert Client(again.store).read(b"/a") == b"1"
    with pytest.raises(RefusedError, match="ENOENT"):
        Client(again.store).read(b"/not-saved")
    again.close()


def test_torn_end_of_the_file(tmp_path: Path) -> None:
    state = StateFile(tmp_path)
    Client(state.store).write(b"/a", b"1")
    state.save()
    state.close()
    with (tmp_path / "state").open("ab") as file:
        file.write(journal.batch([b"\1"])[:-1])
    again = StateFile(tmp_path)
    assert Client(again.store).read(b"/a") == b"1"
    Client(again.store).write(b"/b", b"2")
    again.save()
    again.close()
    third = StateFile(tmp_path)
    assert Client(third.store).read(b"/b") == b"2"
    third.close()


def test_one_store_for_a_directory(tmp_path: Path) -> None:
    state = StateFile(tmp_path)
    with pytest.raises(HostError, match="another store"):
        StateFile(tmp_path)
    state.close()


def test_file_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "_GROWTH_BYTES", 10_000)
    monkeypatch.setattr(statefile, "_STEP_BATCHES", 3)
    state = StateFile(tmp_path)
    dom0 = Client(state.store)
    for number in range(50):
        dom0.write(b"/n/%d" % number, b"")
    for number in range(2000):
        dom0.write(b"/n/%d" % (number % 50), b"%d" % number)
        state.save()
        # At every moment the file gives back what was saved.
        if number % 37 == 0:
            found, _ = restore((tmp_path / "state").read_bytes())
            assert contents(found) == contents(state.store)
    assert (tmp_path / "state").stat().st_size < 40_000
    state.close()


def test_full_disk_is_no_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(statefile, "_RETRY_SAVES", 3)
    state = StateFile(tmp_path)
    dom0 = Client(state.store)
    real = os.write

    def write_half(fd: int, data: memoryview) -> int:
        if len(data) < 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write_half)
    for number in range(9):
        dom0.write(b"/a", b"%d" % number)
        state.save()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.undo()
    monkeypatch.setattr(statefile, "_RETRY_SAVES", 1)
    dom0.write(b"/a", b"last")
    state.save()
    state.close()
    again = StateFile(tmp_path)
    assert Client(again.store).read(b"/a") == b"last"
    again.close()
