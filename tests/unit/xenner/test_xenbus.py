# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend's moves through xenbus' states."""

import itertools
from dataclasses import replace

import pytest

from xenner.xenbus import (
    Act,
    Move,
    Seen,
    XenbusState,
    next_move,
    parse_state,
)

S = XenbusState
NEW = Seen(backend=S.INITIALISING, frontend=S.INITIALISING, is_online=True)


def settle(seen: Seen) -> tuple[Seen, list[Act | XenbusState]]:
    """Make every move that is asked for; the end, and what was done."""
    done: list[Act | XenbusState] = []
    while (move := next_move(seen)) is not None:
        assert len(done) < 20, done
        if move.state is not None:
            seen = replace(seen, backend=move.state)
            done.append(move.state)
            if move.state is S.CLOSED:
                seen = replace(seen, is_prepared=False)
        match move.act:
            case Act.PREPARE:
                seen = replace(seen, is_prepared=True)
            case Act.ATTACH:
                seen = replace(seen, is_attached=True)
            case Act.DETACH:
                seen = replace(seen, is_attached=False)
        if move.act is not None:
            done.append(move.act)
        if move.act is Act.FORGET:
            break
    return seen, done


def test_a_life() -> None:
    seen, done = settle(NEW)
    assert done == [Act.PREPARE, S.INIT_WAIT]
    seen, done = settle(replace(seen, frontend=S.INITIALISED))
    assert done == [Act.ATTACH, S.CONNECTED]
    assert settle(replace(seen, frontend=S.CONNECTED))[1] == []
    seen, done = settle(replace(seen, frontend=S.CLOSING))
    assert done == [Act.DETACH, S.CLOSING]
    seen, done = settle(replace(seen, frontend=S.CLOSED))
    assert done == [S.CLOSED]
    # The guest has booted anew.
    _seen, done = settle(replace(seen, frontend=S.INITIALISING))
    assert done == [Act.PREPARE, S.INIT_WAIT]


def test_unplugged_by_the_toolstack() -> None:
    seen, _ = settle(replace(NEW, frontend=S.CONNECTED))
    assert seen.is_attached
    asked = replace(seen, backend=S.CLOSING, is_online=False)
    # The frontend writes what it holds first.
    asked, done = settle(asked)
    assert done == []
    asked, done = settle(replace(asked, frontend=S.CLOSING))
    assert done == [Act.DETACH]
    _asked, done = settle(replace(asked, frontend=S.CLOSED))
    assert done == [S.CLOSED, Act.FORGET]


def test_a_frontend_that_is_not_written_yet_is_waited_for() -> None:
    seen, done = settle(replace(NEW, frontend=S.UNKNOWN))
    assert done == [Act.PREPARE, S.INIT_WAIT]
    _seen, done = settle(replace(seen, frontend=S.INITIALISING))
    assert done == []


def test_a_frontend_that_is_gone_closes_the_device() -> None:
    seen, _ = settle(replace(NEW, frontend=S.CONNECTED))
    _seen, done = settle(replace(seen, frontend=S.UNKNOWN))
    assert done == [Act.DETACH, S.CLOSED]
    waiting, _ = settle(NEW)
    gone = replace(waiting, frontend=S.UNKNOWN, is_online=False)
    assert settle(gone)[1] == [S.CLOSED, Act.FORGET]


def test_what_was_refused_is_closed_and_stays_so() -> None:
    seen, done = settle(replace(NEW, is_refused=True))
    assert done == [S.CLOSED]
    connected, _ = settle(replace(NEW, frontend=S.CONNECTED))
    _seen, done = settle(replace(connected, is_refused=True))
    assert done == [Act.DETACH, S.CLOSING]
    assert next_move(seen) is None


@pytest.mark.parametrize("online", [True, False])
def test_whatever_the_frontend_writes_it_comes_to_rest(online: bool) -> None:
    either = (False, True)
    for backend, frontend, *flags in itertools.product(
        S, S, either, either, either, either
    ):
        seen = Seen(backend, frontend, online, *flags)
        end, done = settle(seen)
        assert next_move(end) is None or done[-1] is Act.FORGET
        if end.is_attached:
            assert frontend in (S.INITIALISED, S.CONNECTED)


def test_a_frontend_that_begins_anew_without_having_closed() -> None:
    seen, _ = settle(replace(NEW, frontend=S.CONNECTED))
    seen, done = settle(replace(seen, frontend=S.INITIALISING))
    assert done == [Act.DETACH, S.INIT_WAIT]
    assert settle(replace(seen, frontend=S.INITIALISED))[0].is_attached


def test_one_that_cannot_be_attached_to_yet() -> None:
    """The frontend is left as it is, until it wants to go."""
    seen = Seen(S.CONNECTED, S.CONNECTED, True, is_waiting=True)
    assert settle(seen)[1] == []
    seen, done = settle(replace(seen, frontend=S.CLOSING))
    assert done == [S.CLOSING]
    assert settle(replace(seen, frontend=S.CLOSED))[1] == [S.CLOSED]


def test_nodes_that_are_gone_are_forgotten() -> None:
    assert next_move(replace(NEW, backend=S.UNKNOWN)) == Move(Act.FORGET)


@pytest.mark.parametrize("text", [None, "", "x", "9", "-1", "4 "])
def test_what_is_no_state(text: str | None) -> None:
    known = parse_state(text)
    assert known is (S.CONNECTED if text == "4 " else S.UNKNOWN)
