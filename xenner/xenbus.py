# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a backend's device: io/xenbus.h's states, as Linux' backends and
libxl go through them. Pure: what is seen goes in, what to do comes out.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, auto


class XenbusState(IntEnum):
    """enum xenbus_state of io/xenbus.h; UNKNOWN also: there is no node."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8


# The states in which a frontend's rings may be used.
_SERVED = frozenset({XenbusState.INITIALISED, XenbusState.CONNECTED})
_ACTIVE = frozenset(
    {XenbusState.INITIALISED, XenbusState.CONNECTED, XenbusState.CLOSING}
)


class Act(Enum):
    """What a backend does before it writes its new state."""

    PREPARE = auto()
    """Open what stands behind the device, write what it offers."""
    ATTACH = auto()
    """Read what the frontend wrote, map its rings, serve."""
    DETACH = auto()
    """Answer what is on its way, unmap."""
    FORGET = auto()
    """Close all; the device is not looked at any more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as it is now.

    `backend` and `frontend` are the nodes' values, `is_online` the backend's
    node `online`. `is_refused`: preparing or attaching failed, and nothing
    that would change that has been written since. `is_waiting`: attaching to
    a frontend that is connected failed, and is not tried again yet.
    """

    backend: XenbusState
    frontend: XenbusState
    is_online: bool
    is_prepared: bool = False
    is_attached: bool = False
    is_refused: bool = False
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """One act, or a state to be written; then look again."""

    act: Act | None = None
    state: XenbusState | None = None


def parse_state(text: str | None) -> XenbusState:
    """A node's value; what is not a state is UNKNOWN."""
    try:
        return XenbusState(int(text or "0"))
    except ValueError:
        return XenbusState.UNKNOWN


def next_move(seen: Seen) -> Move | None:
    """What to do next; None: nothing until a node changes.

    Repeated with what has become of it, it comes to None or FORGET.
    """
    if seen.backend is XenbusState.UNKNOWN:
        return _forget(seen)
    if _must_detach(seen):
        return Move(Act.DETACH)
    if seen.backend is XenbusState.CLOSED and not seen.is_online:
        return _forget(seen)
    wanted = _wanted_state(seen)
    if wanted is XenbusState.INIT_WAIT and not seen.is_prepared:
        return Move(Act.PREPARE)
    if wanted is XenbusState.CONNECTED and not seen.is_attached:
        # A frontend that is in no such state has nothing to attach to.
        may_attach = seen.frontend in _SERVED and not seen.is_waiting
        return Move(Act.ATTACH) if may_attach else None
    return None if wanted is seen.backend else Move(state=wanted)


def _forget(seen: Seen) -> Move:
    return Move(Act.DETACH if seen.is_attached else Act.FORGET)


def _must_detach(seen: Seen) -> bool:
    """Nobody is there, or wants to go, or it has gone wrong.

    A toolstack's CLOSING alone is not enough: the frontend has to write what
    it still holds, and answers by closing.
    """
    return seen.is_attached and (
        seen.is_refused or seen.frontend not in _SERVED
    )


def _wanted_state(seen: Seen) -> XenbusState:
    """The state that follows from what is seen, perhaps the present one."""
    frontend, backend = seen.frontend, seen.backend
    if seen.is_refused or backend is XenbusState.CLOSING:
        return (
            XenbusState.CLOSING if frontend in _ACTIVE else XenbusState.CLOSED
        )
    if frontend is XenbusState.CLOSING:
        return XenbusState.CLOSING
    if backend is XenbusState.INITIALISING:
        return XenbusState.INIT_WAIT
    if frontend is XenbusState.UNKNOWN and (
        backend is XenbusState.INIT_WAIT and seen.is_online
    ):
        # Not written yet, or no more, which a toolstack says by `online`.
        return backend
    if frontend in (XenbusState.CLOSED, XenbusState.UNKNOWN):
        return XenbusState.CLOSED
    if not seen.is_online:
        return backend
    if backend in (XenbusState.CLOSED, XenbusState.CONNECTED):
        # The frontend starts over: a reboot, or its driver was reloaded.
        if frontend is XenbusState.INITIALISING:
            return XenbusState.INIT_WAIT
        if backend is XenbusState.CLOSED:
            return backend
    return XenbusState.CONNECTED if frontend in _SERVED else backend
