# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: B027 (what a kind of device need not do is empty here)
"""One virtual device of a backend: its nodes in xenstore, and the life that
xenbus gives it. What is behind it is the daemon's own.

Calls block (xenstore, and whatever the device is): the caller has a thread
for them.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from xenner.backend.lines import DeviceLog, reason_of
from xenner.backend.status import Value
from xenner.errors import GuestError, HostError, ShortageError
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import Act, Seen, XenbusState, next_move, parse_state


class Device(ABC):
    """backend/<kind>/<domid>/<devid>, from its first node to its last."""

    logger: ClassVar[logging.Logger]
    config_nodes: ClassVar[Sequence[str]]
    """The nodes whose change is a reason to try again what was refused."""
    watched: ClassVar[Sequence[str]] = ("state",)
    """What the frontend may change at any time."""
    counted: ClassVar[Sequence[str]]
    """The counters that are told when it disconnects."""
    waits: ClassVar[bool] = False
    """Is a frontend that was connected to a process before us not closed when
    we cannot serve it yet? Its requests wait, as while nobody was here."""

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        self.path = path
        self.log = DeviceLog(self.logger, path, domid)
        self._store = store
        self._domid = domid
        self._wake = wake
        self._frontend = ""
        # What was refused, and the nodes that it was refused for.
        self._refused: tuple[str | None, ...] | None = None
        self._seen = Seen(XenbusState.UNKNOWN, XenbusState.UNKNOWN, False)
        self._end: str | None = None
        # Why it waits, as it was told, and whether it does now.
        self._missing = ""
        self._is_waiting = False

    # --- what each kind has of its own ---

    @property
    @abstractmethod
    def is_prepared(self) -> bool:
        """Is what stands behind the device open?"""

    @property
    @abstractmethod
    def is_attached(self) -> bool:
        """Is the frontend served?"""

    @abstractmethod
    def statistics(self) -> Mapping[str, Value]:
        """Its counters, in any thread."""

    @abstractmethod
    def _prepare(self) -> dict[str, object]:
        """Open what stands behind the device. Returns the nodes that say what
        it offers. HostError."""

    @abstractmethod
    def _attach(self) -> str:
        """Map the frontend's rings and serve them. Returns what to tell
        people. HostError, GuestError."""

    @abstractmethod
    def _detach(self) -> None:
        """Answer what is on its way and unmap, if it is attached."""

    @abstractmethod
    def _let_go(self) -> None:
        """Close everything but what the process after us takes over."""

    def _forget(self) -> None:
        """The device is no more; it has been closed."""

    def _closed(self) -> None:
        """It becomes Closed, and may be opened again."""

    def _follow(self) -> None:
        """What may change while it is served."""

    def host_changed(self) -> None:
        """Something of the host's that it may wait for is in no node."""

    # --- its life ---

    def step(self) -> bool:
        """Do what the nodes ask for; False: the device is no more."""
        while (move := next_move(self._look())) is not None:
            if move.state is not None:
                self._set_state(move.state)
            match move.act:
                case Act.PREPARE:
                    self._try(self._offer)
                case Act.ATTACH:
                    self._try(self._connect)
                case Act.DETACH:
                    self._disconnect()
                case Act.FORGET:
                    self.close()
                    self._forget()
                    return False
        self._follow()
        return True

    def close(self) -> None:
        """Answer what is on its way and let go; the nodes stay."""
        self._disconnect()
        self._let_go()
        if self._frontend:
            for name in self.watched:
                # The store may have ended before us.
                with suppress(OSError, HostError):
                    self._store.unwatch(f"{self._frontend}/{name}", self.path)
            self._frontend = ""

    def _node(self, name: str) -> str | None:
        return self._store.read(f"{self.path}/{name}")

    def _frontend_node(self, name: str) -> str | None:
        return self._store.read(f"{self._frontend}/{name}")

    def _frontend_state(self) -> XenbusState:
        if not self._frontend:
            return XenbusState.UNKNOWN
        return parse_state(self._frontend_node("state"))

    def _find_frontend(self) -> None:
        reasons = self._reasons()
        frontend = self._node("frontend")
        if frontend:
            try:
                for name in self.watched:
                    self._store.watch(f"{frontend}/{name}", self.path)
            except OSError:
                self._refuse(f"frontend is no path: {frontend!r}", reasons)
                return
            self._frontend = frontend
            self.log.name_domain(self._domain_fields())

    def _domain_fields(self) -> dict[str, str]:
        """What the journal calls the domain, as far as it is in the store."""
        domain = f"/local/domain/{self._domid}"
        vm = self._store.read(f"{domain}/vm") or ""
        return {
            "XENNER_DOMAIN": self._store.read(f"{domain}/name") or "",
            "XENNER_UUID": vm.removeprefix("/vm/"),
        }

    def _look(self) -> Seen:
        """What is there now; kept, for the act that follows from it."""
        backend = parse_state(self._node("state"))
        if backend is XenbusState.INITIALISING is not self._seen.backend:
            self._begin_anew()
        frontend = self._frontend_state()
        if self._end is not None:
            self._refuse(self._end, self._reasons())
            self._end = None
        if self._refused is not None and self._may_retry(frontend):
            self._refused = None
        if not self._frontend and self._refused is None:
            self._find_frontend()
            frontend = self._frontend_state()
        self._seen = Seen(
            backend=backend,
            frontend=frontend,
            is_online=self._node("online") == "1",
            is_prepared=self.is_prepared,
            is_attached=self.is_attached,
            is_refused=self._refused is not None,
            is_waiting=self._is_waiting,
        )
        return self._seen

    def _begin_anew(self) -> None:
        """A toolstack has written the device, perhaps once more before we saw
        that the one of that name was gone: nothing of it is this one's."""
        if self.is_prepared or self.is_attached:
            self.close()
            self._forget()
        self._refused = self._end = None

    def _may_retry(self, frontend: XenbusState) -> bool:
        """Did the toolstack change a node, or the guest reboot?"""
        return self._refused != self._reasons() or (
            frontend is XenbusState.INITIALISING is not self._seen.frontend
        )

    def _reasons(self) -> tuple[str | None, ...]:
        return tuple(
            self._node(name) for name in ("frontend", *self.config_nodes)
        )

    def _set_state(self, state: XenbusState) -> None:
        if state is XenbusState.CLOSED:
            self._closed()
        self._store.write_existing(f"{self.path}/state", int(state))

    def _offer(self) -> None:
        try:
            nodes = self._prepare()
        except HostError as error:
            why = reason_of(error.text)
            self._store.write(
                self.path, {"hotplug-status": "error", "hotplug-error": why}
            )
            raise
        self._store.write(self.path, nodes)

    def _connect(self) -> None:
        # A process that comes back finds frontends that are connected; one
        # that connects again need not have closed.
        try:
            if not self.is_prepared:
                self._offer()
            said = self._attach()
        except (HostError, GuestError) as error:
            if not self._may_wait(error):
                raise
            self._wait(str(error))
            return
        self._missing = ""
        self.log.info("connected, %s", said)

    def _may_wait(self, error: HostError | GuestError) -> bool:
        """What the host is short of now is no end of a device."""
        return isinstance(error, ShortageError) or (
            self.waits and self._seen.backend is XenbusState.CONNECTED
        )

    def _wait(self, text: str) -> None:
        """Also what seems to be the frontend's fault may be the host's, who
        does not know a domain yet."""
        self._is_waiting = True
        text = reason_of(text)
        if text != self._missing:
            self._missing = text
            text = f"{text}: it is tried again"
            self.log.warning("%s", text)
            self._store.write(f"error/{self.path}", {"error": text})

    def try_again(self) -> None:
        """If it waits: every now and then, in any thread."""
        if self._is_waiting:
            self._is_waiting = False
            self._wake()

    def _disconnect(self) -> None:
        was_attached = self.is_attached
        self._detach()
        if was_attached:
            counters = self.statistics()
            text = ", ".join(
                f"{counters[name]} {name}" for name in self.counted
            )
            self.log.info("disconnected, %s", text)

    def _try(self, act: Callable[[], None]) -> None:
        reasons = self._reasons()
        try:
            act()
        except (HostError, GuestError) as error:
            self._refuse(str(error), reasons)

    def _refuse(self, text: str, reasons: tuple[str | None, ...]) -> None:
        """Say why, where Linux' backends say it, and close the device until
        there are others than these `reasons`, read before what went wrong: one
        that is written meanwhile is a new one."""
        text = reason_of(text)
        self.log.warning("%s", text)
        self._refused = reasons
        self._store.write(f"error/{self.path}", {"error": text})

    def _end_with(self, reason: str) -> None:
        """It can be served no longer. In any thread."""
        self._end = reason
        self._wake()
