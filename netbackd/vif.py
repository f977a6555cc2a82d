# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual interface: its nodes in xenstore, its tap, its engines.

Calls block (xenstore, netlink): the caller has a thread for them.
"""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from netbackd import tap
from netbackd.engine import Engine, Filter, parse_rate
from netbackd.frontend import (
    MAX_QUEUES,
    read_features,
    read_rings,
    wants_filter,
)
from netbackd.hotplug import run_script
from netbackd.wishes import Wishes, read_wishes
from xenner.errors import GuestError, HostError
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import Act, Seen, XenbusState, next_move, parse_state

_log = logging.getLogger("netbackd")

# What the frontend may change at any time.
_FRONTEND_NODES = ("state", "request-multicast-control")
# The nodes whose change is a reason to try again what was refused.
_WISHES = (
    *("bridge", "vifname", "mtu", "vlan", "gatewaydev", "ip", "rate", "script"),
)
_FEATURES = {
    "feature-sg": 1,
    "feature-gso-tcpv4": 1,
    "feature-gso-tcpv6": 1,
    "feature-ipv6-csum-offload": 1,
    "feature-rx-copy": 1,
    "feature-rx-flip": 0,
    "feature-multicast-control": 1,
    "feature-dynamic-multicast-control": 1,
    "feature-split-event-channels": 1,
    "feature-ctrl-ring": 0,
    "multi-queue-max-queues": min(os.cpu_count() or 1, MAX_QUEUES),
}


class Vif:
    """backend/vif/<domid>/<devid>, from its first node to its last."""

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        self.path = path
        self._store = store
        self._domid = domid
        self._wake = wake
        self._frontend = ""
        self._wishes: Wishes | None = None  # None: there is no tap
        self._missing = ""  # the bridge that it waits for
        self._filter = Filter()
        self._engines: list[Engine] = []
        self._fds: list[int] = []
        self._past: Counter[str] = Counter()  # of engines that are no more
        # Who asks for counters does so in another thread than step()'s.
        self._counting = threading.Lock()
        self._rate_text: str | None = None  # as the engines have it
        self._refused: tuple[str | None, ...] | None = None
        self._end: str | None = None

    def step(self) -> bool:
        """Do what the nodes ask for; False: the device is no more."""
        self._find_frontend()
        while (move := next_move(self._seen())) is not None:
            if move.state is not None:
                self._store.write_existing(
                    f"{self.path}/state", int(move.state)
                )
            match move.act:
                case Act.PREPARE:
                    self._try(self._prepare)
                case Act.ATTACH:
                    self._try(self._attach)
                case Act.DETACH:
                    self._detach()
                case Act.FORGET:
                    self._forget()
                    return False
        self._follow()
        return True

    def close(self) -> None:
        """Let go; nodes and tap stay, for the process that comes after us."""
        self._detach()
        if self._frontend:
            for name in _FRONTEND_NODES:
                with suppress(OSError):
                    self._store.unwatch(f"{self._frontend}/{name}", self.path)
            self._frontend = ""

    def links_changed(self) -> None:
        """Interfaces have come or gone."""
        if self._missing:
            self._wake()

    def statistics(self) -> dict[str, int]:
        """The counters of all queues there have been."""
        with self._counting:
            total = Counter(self._past)
            for engine in self._engines:
                total.update(engine.statistics())
        return dict(total)

    # --- what is seen ---

    def _node(self, name: str) -> str | None:
        return self._store.read(f"{self.path}/{name}")

    def _frontend_node(self, name: str) -> str | None:
        return self._store.read(f"{self._frontend}/{name}")

    def _find_frontend(self) -> None:
        if self._frontend:
            return
        frontend = self._node("frontend")
        if frontend:
            self._frontend = frontend
            for name in _FRONTEND_NODES:
                self._store.watch(f"{frontend}/{name}", self.path)

    def _seen(self) -> Seen:
        frontend = XenbusState.UNKNOWN
        if self._frontend:
            frontend = parse_state(self._frontend_node("state"))
        if self._end is not None:
            self._refuse(self._end)
            self._end = None
        if self._refused is not None and self._refused != self._reasons():
            self._refused = None
        return Seen(
            backend=parse_state(self._node("state")),
            frontend=frontend,
            is_online=self._node("online") == "1",
            is_prepared=self._wishes is not None,
            is_attached=bool(self._engines),
            is_refused=self._refused is not None,
        )

    def _reasons(self) -> tuple[str | None, ...]:
        return tuple(self._node(name) for name in _WISHES)

    # --- what is done ---

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (HostError, GuestError) as error:
            self._refuse(str(error))

    def _refuse(self, text: str) -> None:
        """Say why, where Linux' backends say it, and close the device."""
        _log.warning("%s: %s", self.path, text)
        self._refused = self._reasons()
        self._store.write(f"error/{self.path}", {"error": text})

    def _prepare(self) -> None:
        try:
            wishes = read_wishes(self._node, self.path)
            parse_rate(self._node("rate"))
            placed = tap.make_tap(wishes, self.path)
            if wishes.script:
                run_script(wishes, self.path, "online")
        except HostError as error:
            self._store.write(
                self.path,
                {"hotplug-status": "error", "hotplug-error": error.text},
            )
            raise
        self._wishes = wishes
        self._tell_place(placed)
        self._store.write(self.path, _FEATURES)

    def _tell_place(self, placed: tap.Placed) -> None:
        """Is the tap in its bridge?"""
        assert self._wishes is not None
        nodes = {} if self._wishes.script else {"hotplug-status": "connected"}
        if placed.missing and placed.missing != self._missing:
            why = f"there is no bridge {placed.missing} (yet)"
            _log.warning("%s: %s", self.path, why)
            self._store.write(self.path, {"hotplug-error": why})
        elif self._missing and not placed.missing:
            _log.info("%s: bridge %s is there", self.path, self._missing)
            self._store.write(self.path, {"hotplug-error": ""})
        self._missing = placed.missing
        if not placed.missing:
            self._store.write(self.path, nodes)

    def _attach(self) -> None:
        # A process that comes back finds frontends that are connected.
        if self._wishes is None:
            self._prepare()
        assert self._wishes is not None
        rings = read_rings(self._frontend_node, self._domid)
        features = read_features(self._frontend_node)
        name = self._wishes.name
        self._fds = tap.open_queues(name, len(rings), features)
        self._filter = Filter()
        self._rate_text = None
        try:
            for ring, fd in zip(rings, self._fds, strict=True):
                engine = Engine(self._hear_end, self._filter)
                self._engines.append(engine)
                engine.attach(ring, features, fd)
        except OSError as error:
            self._detach()
            raise GuestError(
                self._domid, f"its rings cannot be had: {error.strerror}"
            ) from error
        _log.info("%s: connected to %s, %d queues", self.path, name, len(rings))

    def _follow(self) -> None:
        """What may change while it is served."""
        if self._missing and self._wishes is not None:
            self._try(self._place_again)
        if not self._engines:
            return
        self._filter.set_active(wants_filter(self._frontend_node))
        self._set_rate()

    def _place_again(self) -> None:
        assert self._wishes is not None
        self._tell_place(tap.make_tap(self._wishes, self.path))

    def _set_rate(self) -> None:
        text = self._node("rate")
        if text == self._rate_text:
            return
        self._rate_text = text
        try:
            rate = parse_rate(text)
        except HostError as error:
            _log.warning("%s: %s: the limit stays", self.path, error)
            return
        # Each queue has its part, as in xen-netback.
        part = rate.rate_bytes // len(self._engines)
        for engine in self._engines:
            engine.set_rate(max(part, bool(rate.rate_bytes)), rate.interval_us)

    def _detach(self) -> None:
        if not self._engines:
            return
        for engine in self._engines:
            engine.detach()
        with self._counting:
            for engine in self._engines:
                self._past.update(engine.statistics())
                engine.close()
            self._engines.clear()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        _log.info("%s: disconnected, %s", self.path, self._summary())

    def _forget(self) -> None:
        wishes = self._wishes
        self.close()
        if wishes is None:
            return
        self._wishes = None
        try:
            if wishes.script:
                run_script(wishes, self.path, "offline")
        except HostError as error:
            _log.warning("%s: %s", self.path, error)
        try:
            tap.remove_tap(wishes.name)
        except HostError as error:
            _log.warning("%s: %s", self.path, error)

    def _summary(self) -> str:
        counters = self.statistics()
        names = (
            *("tx_packets", "rx_packets"),
            *("tx_refused", "tx_dropped", "rx_dropped"),
        )
        return ", ".join(f"{counters[name]} {name}" for name in names)

    def _hear_end(self, reason: str) -> None:
        """In a serving thread."""
        self._end = reason
        self._wake()
