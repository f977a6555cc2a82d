# SPDX-License-Identifier: GPL-2.0-or-later
"""Log when a device connects or disconnects, as an event of its guest's unit.

The backends know first, but run as users of their own: journald shows a line
about another unit only if root wrote it (journalctl(1), --unit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from xenner.backend.lines import device_budget
from xenner.journal import Event, Line
from xenner.linebudget import LineBudget
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state
from xennerd.domain.records import Record
from xennerd.supervisor.events import LogEvent

ROOT = "backend"
"""The node to watch: backend/<kind>/<domid>/<devid>."""

_DEPTH = 4


class Nodes(Protocol):
    """The part of xenner.libxenstore.Store that is used here."""

    def read(self, path: str) -> str | None: ...

    def children(self, path: str) -> list[str]: ...


class Connections:
    """Follows the backends' states. Devices that were connected before the
    first look are not logged."""

    def __init__(
        self, find: Callable[[Domid], Record | None], log_event: LogEvent
    ) -> None:
        """`find` returns a domain's record."""
        self._find = find
        self._log_event = log_event
        self._connected: set[str] = set()
        self._budgets: dict[str, LineBudget] = {}

    def changed(self, nodes: Nodes, path: str) -> None:
        """A watch on ROOT fired."""
        parts = path.split("/")
        if len(parts) == 1:
            self._connected = {
                device
                for device in _listed(nodes)
                if _is_connected(nodes, device)
            }
        elif len(parts) <= _DEPTH:
            # Created or removed: the device may be another one now.
            for device in sorted(self._connected | self._budgets.keys()):
                if f"{device}/".startswith(f"{path}/"):
                    self._note(nodes, device, is_connected=False)
                    self._forget(nodes, device)
            if len(parts) == _DEPTH:
                self._look(nodes, path)
        elif parts[_DEPTH:] == ["state"]:
            self._look(nodes, "/".join(parts[:_DEPTH]))

    def _forget(self, nodes: Nodes, device: str) -> None:
        """Drop the budget of a device that is gone; only a toolstack can create
        another one."""
        if nodes.read(f"{device}/state") is None:
            self._budgets.pop(device, None)

    def _look(self, nodes: Nodes, device: str) -> None:
        self._note(nodes, device, is_connected=_is_connected(nodes, device))

    def _note(self, nodes: Nodes, device: str, *, is_connected: bool) -> None:
        if is_connected == (device in self._connected):
            return
        if is_connected:
            self._connected.add(device)
        else:
            self._connected.discard(device)
        _backend, kind, domid, devid = device.split("/")
        record = self._find(Domid(int(domid))) if domid.isdigit() else None
        if record is None or not record.unit:
            self._budgets.pop(device, None)
            return
        budget = self._budgets.setdefault(device, device_budget())
        if budget.take():
            state = "connected" if is_connected else "disconnected"
            name = nodes.read(f"{device}/dev") or f"{kind} {devid}"
            text = f"{name} is {state}"
            line = Line(Event.DEVICE, text, device=f"{kind}/{devid}")
            self._log_event(record, line)


def _is_connected(nodes: Nodes, device: str) -> bool:
    state = parse_state(nodes.read(f"{device}/state"))
    return state is XenbusState.CONNECTED


def _listed(nodes: Nodes) -> Iterator[str]:
    for kind in nodes.children(ROOT):
        for domid in nodes.children(f"{ROOT}/{kind}"):
            for devid in nodes.children(f"{ROOT}/{kind}/{domid}"):
                yield f"{ROOT}/{kind}/{domid}/{devid}"
