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
from dataclasses import replace

from netbackd import tap
from netbackd.config import VifConfig, read_config
from netbackd.engine import Engine, Filter, Limit, parse_rate
from netbackd.frontend import (
    MAX_QUEUES,
    read_features,
    read_rings,
    wants_filter,
)
from netbackd.hotplug import run_script
from xenner.backend.device import Device
from xenner.errors import SHORTAGES, GuestError, HostError, host_error
from xenner.libxenstore import Store
from xenner.types import Domid

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
_STATUS, _CONNECTED = "hotplug-status", "connected"
_ERROR = "hotplug-error"


class Vif(Device):
    """backend/vif/<domid>/<devid>, from its first node to its last."""

    logger = logging.getLogger("netbackd")
    config_nodes = (
        *("bridge", "vifname", "mtu", "vlan", "gatewaydev", "ip", "rate"),
        "script",
    )
    watched = ("state", "request-multicast-control")
    counted = (
        *("tx_packets", "rx_packets"),
        *("tx_refused", "tx_dropped", "rx_dropped"),
    )

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        super().__init__(store, path, domid, wake)
        self._config = VifConfig("")
        self._tap: tap.Tap | None = None
        # Or an earlier process's, or one left by a failure.
        self._may_have_tap = True
        self._lacking = ""  # the bridge that it waits for
        # Its nodes when they were followed last.
        self._texts: tuple[str | None, ...] = ()
        self._bridge_index = 0  # of the one that the tap was put in
        self._filter = Filter()
        # Kept across connections: a reconnect must not renew the allowance.
        self._limit = Limit()
        self._engines: list[Engine] = []
        self._fds: list[int] = []
        self._past: Counter[str] = Counter()  # of engines that are no more
        # Counters are read in another thread than step()'s.
        self._counting = threading.Lock()
        self._rate_text: str | None = None  # as the limit has it
        self._mtu_text: str | None = None  # as the tap has it
        self._told: tap.Link | None = None  # of the link, to the guest

    @property
    def is_prepared(self) -> bool:
        return bool(self._name())

    @property
    def is_attached(self) -> bool:
        return bool(self._engines)

    def host_changed(self) -> None:
        """Interfaces have come, gone or changed."""
        if self._is_displaced() or self._told != self._link():
            self._wake()

    def statistics(self) -> dict[str, int]:
        """The counters of all queues there have been."""
        with self._counting:
            total = Counter(self._past)
            for engine in self._engines:
                total.update(engine.statistics())
        return dict(total)

    def _name(self) -> str:
        """The tap's; "": there is none."""
        return tap.name_of(self._tap) if self._tap else ""

    def _prepare(self) -> dict[str, object]:
        self._texts = self._reasons()
        config = read_config(self._node, self.path)
        parse_rate(self._node("rate"))
        self._mtu_text = self._node("mtu")
        self._may_have_tap = True
        placed = self._make_tap(config)
        # That of a process before us is left alone: the guest is using it.
        is_done = not placed.is_new and self._node(_STATUS) == _CONNECTED
        if config.script and not is_done:
            self._go_online(config, placed.tap)
        self._config, self._tap = config, placed.tap
        self._tell_place(placed)
        self._told = None
        return {**_FEATURES, "carrier": 0}

    def _make_tap(self, config: VifConfig) -> tap.Placed:
        def is_gone(path: str) -> bool:
            return self._store.read(f"{path}/state") is None

        return tap.make_tap(config, self.path, is_gone)

    def _go_online(self, config: VifConfig, made: tap.Tap) -> None:
        """HostError: the script's own words, where it has any."""
        self._store.write(self.path, {_ERROR: ""})
        try:
            run_script(config, self.path, "online")
        except HostError as error:
            tap.remove_tap(made)
            said = self._node(_ERROR)
            if said:
                raise HostError(f"{config.script}: {said}") from error
            raise

    def _tell_place(self, placed: tap.Placed) -> None:
        """Is the tap in its bridge?"""
        if placed.missing and placed.missing != self._lacking:
            why = f"there is no bridge {placed.missing} (yet)"
            self.log.warning("%s", why)
            self._store.write(self.path, {_ERROR: why})
        elif not placed.missing:
            if self._lacking:
                self.log.info("bridge %s is there", self._lacking)
            nodes = {_STATUS: _CONNECTED}
            if self._node(_ERROR):
                nodes[_ERROR] = ""
            self._store.write(self.path, nodes)
        self._lacking = placed.missing
        self._bridge_index = placed.bridge_index

    def _attach(self) -> str:
        rings = read_rings(self._frontend_node, self._domid)
        features = read_features(self._frontend_node)
        name = self._name()
        self._fds = tap.open_queues(name, len(rings), features)
        self._filter = Filter()
        try:
            for ring, fd in zip(rings, self._fds, strict=True):
                engine = Engine(self._end_with, self._filter, self._limit)
                self._engines.append(engine)
                engine.attach(ring, features, fd)
        except OSError as error:
            self._detach()
            raise attach_error(self._domid, error) from error
        return f"to {name}, {len(rings)} queues"

    def _follow(self) -> None:
        """What may change while it is served."""
        if self._lacking and self._texts != self._reasons():
            self._apply_config_changes()
        if self._is_displaced():
            self._try(self._place_again)
        self._set_mtu()
        self._tell_link()
        if not self._engines:
            return
        self._filter.set_active(wants_filter(self._frontend_node))
        self._set_rate()

    def _apply_config_changes(self) -> None:
        """Apply changes of the configuration nodes: another bridge, or none."""
        self._texts = self._reasons()
        if not self._engines:
            # The tap is not in use yet: create it again as configured.
            self._take_away()
            self._lacking = ""
            self._try(self._offer)
            self._wake()
            return
        was = self._config
        try:
            now = read_config(self._node, self.path)
        except HostError as error:
            self.log.warning("%s: it waits as before", error)
            return
        if replace(now, bridge=was.bridge, vlans=was.vlans, mtu=was.mtu) != was:
            self.log.warning("its nodes count when it is plugged in again")
            return
        self._config = replace(now, mtu=was.mtu)
        self._try(self._place_again)

    def _is_displaced(self) -> bool:
        """Did its bridge appear, vanish, or get replaced?"""
        bridge = self._config.bridge
        if not bridge or not self._name():
            return False
        return tap.index_of(bridge) != self._bridge_index

    def _place_again(self) -> None:
        self._tell_place(self._make_tap(self._config))

    def _set_mtu(self) -> None:
        """Follow a change of the node `mtu`."""
        if not self._name() or self._node("mtu") == self._mtu_text:
            return
        self._mtu_text = self._node("mtu")
        try:
            mtu = read_config(self._node, self.path).mtu
            config = replace(self._config, mtu=mtu)
            self._tell_place(self._make_tap(config))
        except HostError as error:
            self.log.warning("%s: the MTU stays", error)
            return
        self._config = config

    def _link(self) -> tap.Link | None:
        """The link as the guest should see it: down without a backend."""
        name = self._name()
        link = tap.look_at(name) if name else None
        if link and not self._engines:
            return replace(link, is_up=False)
        return link

    def _tell_link(self) -> None:
        """To the guest, as netif.h says: `carrier` is the backend's node, `mtu`
        the frontend's (so does Xen's script), if the toolstack gives it one."""
        link = self._link()
        if link == self._told:
            return
        self._told = link
        if link is None:
            return
        self._store.write_existing(f"{self.path}/carrier", int(link.is_up))
        if self._frontend:
            self._store.write_existing(f"{self._frontend}/mtu", link.mtu)

    def _set_rate(self) -> None:
        text = self._node("rate")
        if text == self._rate_text:
            return
        self._rate_text = text
        try:
            rate = parse_rate(text)
        except HostError as error:
            self.log.warning("%s: the limit stays", error)
            return
        self._limit.set(rate)
        for engine in self._engines:
            engine.look()

    def _detach(self) -> None:
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

    def _let_go(self) -> None:
        """Nothing more: the tap stays, for the process that comes after."""
        # The store may have ended before us.
        with suppress(OSError, HostError):
            self._tell_link()

    def _closed(self) -> None:
        # A guest that sees it closed may have another device of that name.
        if self._node("online") != "1":
            self._take_away()

    def _forget(self) -> None:
        self._take_away()

    def _take_away(self) -> None:
        """Leave no tap behind, even an earlier process's."""
        if not self._may_have_tap:
            return
        try:
            if self._tap is None:
                taps = [t for t in tap.our_taps() if t.path == self.path]
            else:
                taps = [self._tap]
            for one in taps:
                self._go_offline()
                tap.remove_tap(one)
        except HostError as error:
            self.log.warning("%s", error)
        self._may_have_tap, self._tap = False, None

    def _go_offline(self) -> None:
        try:
            config = self._config
            if not config.name:
                # Of a process before us.
                config = read_config(self._node, self.path)
            if config.script:
                run_script(config, self.path, "offline")
        except HostError as error:
            self.log.warning("%s", error)


def attach_error(domid: Domid, error: OSError) -> GuestError | HostError:
    """Whose fault it is that rings are not served."""
    if error.errno in SHORTAGES:
        return host_error(
            error.errno,
            "its rings cannot be served",
            "are LimitNOFILE and TasksMax large enough?",
        )
    return GuestError(domid, f"its rings cannot be had: {error.strerror}")
