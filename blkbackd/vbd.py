# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual block device: its nodes in xenstore, its volume, its engine.

Calls block (xenstore, disk): the caller has a thread for them.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from blkbackd.engine import (
    ABIS,
    MAX_RING_ORDER,
    MAX_SEGMENTS,
    RECORD_BYTES,
    Engine,
    Ring,
    Trouble,
)
from blkbackd.record import Record, open_record
from blkbackd.volume import Volume, open_volume
from xenner.errors import GuestError, HostError
from xenner.libxenstore import Store
from xenner.types import Domid, GrantRef, Port
from xenner.xenbus import Act, Seen, XenbusState, next_move, parse_state

_log = logging.getLogger("blkbackd")

# io/blkif.h
_VDISK_CDROM, _VDISK_READONLY = 1, 4
_U32_END = 1 << 32


class Vbd:
    """backend/vbd/<domid>/<devid>, from its first node to its last."""

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        self.path = path
        self._store = store
        self._domid = domid
        self._wake = wake
        self._frontend = ""
        self._volume: Volume | None = None
        self._engine: Engine | None = None
        self._record: Record | None = None
        self._is_attached = False
        # What was refused, and the nodes that it was refused for.
        self._refused: tuple[str | None, ...] | None = None
        self._end: str | None = None

    def step(self) -> bool:
        """Do what the nodes ask for; False: the device is no more."""
        self._find_frontend()
        while (move := next_move(self._seen())) is not None:
            if move.state is not None:
                self._set_state(move.state)
            match move.act:
                case Act.PREPARE:
                    self._try(self._prepare)
                case Act.ATTACH:
                    self._try(self._attach)
                case Act.DETACH:
                    self._detach()
                case Act.FORGET:
                    self.close()
                    return False
        return True

    def close(self) -> None:
        """Answer what is on its way and let go; the nodes stay."""
        self._detach()
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._volume is not None:
            self._volume.close()
            self._volume = None
        if self._frontend:
            with suppress(OSError):
                self._store.unwatch(f"{self._frontend}/state", self.path)
            self._frontend = ""

    def statistics(self) -> dict[str, int]:
        """The engine's counters; none before it is attached first."""
        return {} if self._engine is None else self._engine.statistics()

    # --- what is seen ---

    def _node(self, name: str) -> str | None:
        return self._store.read(f"{self.path}/{name}")

    def _find_frontend(self) -> None:
        if self._frontend:
            return
        frontend = self._node("frontend")
        if frontend:
            self._frontend = frontend
            self._store.watch(f"{frontend}/state", self.path)

    def _seen(self) -> Seen:
        frontend = XenbusState.UNKNOWN
        if self._frontend:
            frontend = parse_state(self._store.read(f"{self._frontend}/state"))
        if self._end is not None:
            self._refuse(self._end)
            self._end = None
        if self._refused is not None and self._refused != self._wishes():
            self._refused = None
        return Seen(
            backend=parse_state(self._node("state")),
            frontend=frontend,
            is_online=self._node("online") == "1",
            is_prepared=self._volume is not None,
            is_attached=self._is_attached,
            is_refused=self._refused is not None,
        )

    def _wishes(self) -> tuple[str | None, ...]:
        """The nodes whose change is a reason to try again."""
        return (self._node("params"), self._node("mode"))

    def _set_state(self, state: XenbusState) -> None:
        if state is XenbusState.CLOSED and self._volume is not None:
            # Nobody's any more: it may be opened by another, or grow.
            self._volume.close()
            self._volume = None
        self._store.write_existing(f"{self.path}/state", int(state))

    # --- what is done ---

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (HostError, GuestError) as error:
            self._refuse(str(error))

    def _refuse(self, text: str) -> None:
        """Say why, where Linux' backends say it, and close the device."""
        _log.warning("%s: %s", self.path, text)
        self._refused = self._wishes()
        self._store.write(f"error/{self.path}", {"error": text})

    def _prepare(self) -> None:
        params = self._node("params")
        if not params:
            raise HostError("no params: what is the disk to be?")
        # As the hotplug script "block" is told: a type may stand before it.
        kind, _, rest = params.rpartition(":")
        path = Path(rest if kind in ("phy", "file", "aio", "raw") else params)
        try:
            self._volume = open_volume(
                path,
                is_read_only=self._is_read_only(),
                may_discard=self._node("discard-enable") != "0",
            )
        except HostError as error:
            self._store.write(
                self.path,
                {"hotplug-status": "error", "hotplug-error": error.text},
            )
            raise
        if self._volume.buffered_reason:
            _log.warning(
                "%s: %s is not O_DIRECT: %s",
                self.path,
                path,
                self._volume.buffered_reason,
            )
        self._store.write(
            self.path,
            {
                "physical-device-path": path,
                "hotplug-status": "connected",
                "feature-max-indirect-segments": MAX_SEGMENTS,
                "max-ring-page-order": MAX_RING_ORDER,
            },
        )

    def _is_read_only(self) -> bool:
        return self._node("mode") != "w" or self._is_cdrom()

    def _is_cdrom(self) -> bool:
        return self._node("device-type") == "cdrom"

    def _attach(self) -> None:
        # After a detach of its own making there is none: a frontend that
        # connects again without having closed.
        if self._volume is None:
            self._prepare()
        volume = self._volume
        assert volume is not None
        if self._engine is None:
            self._engine = Engine(self._hear)
        ring = read_ring(self._store, self._frontend, self._domid)
        self._store.write(self.path, self._properties(volume))
        # A domain's number comes again, its uuid does not. One that has booted
        # anew, or whose driver has, is not connected yet: nothing that was in
        # flight is of its ring, though grants and port may be the same.
        uuid = self._store.read(f"/local/domain/{self._domid}/vm")
        seen = self._seen()
        self._record = open_record(
            "-".join(self.path.split("/")[2:]),
            (uuid, ring),
            RECORD_BYTES,
            is_kept=seen.backend is seen.frontend is XenbusState.CONNECTED,
        )
        try:
            self._engine.attach(ring, volume, self._record)
        except OSError as error:
            raise GuestError(
                self._domid, f"its ring cannot be had: {error.strerror}"
            ) from error
        self._is_attached = True
        _log.info(
            "%s: connected, %d MiB of %s%s",
            self.path,
            volume.nr_sectors >> 11,
            volume.path,
            ", read only" if volume.is_read_only else "",
        )

    def _properties(self, volume: Volume) -> dict[str, object]:
        """The nodes that Linux' backend writes when it connects."""
        info = _VDISK_CDROM if self._is_cdrom() else 0
        info |= _VDISK_READONLY if volume.is_read_only else 0
        values: dict[str, object] = {
            "sectors": volume.nr_sectors,
            "info": info,
            "sector-size": volume.block_bytes,
            "physical-sector-size": volume.physical_block_bytes,
            "feature-flush-cache": 1,
            "feature-barrier": 1,
            # A grant is mapped by an addition: keeping it would gain nothing.
            "feature-persistent": 0,
            "feature-discard": int(volume.discard_bytes > 0),
        }
        if volume.discard_bytes:
            values["discard-granularity"] = volume.discard_bytes
            values["discard-alignment"] = 0
            values["discard-secure"] = 0
        return values

    def _detach(self) -> None:
        if self._engine is not None:
            self._engine.detach()
        if self._record is not None:
            self._record.close()
            self._record = None
        if self._is_attached:
            _log.info("%s: disconnected, %s", self.path, self._summary())
        self._is_attached = False

    def _summary(self) -> str:
        counters = self.statistics()
        names = ("reads", "writes", "flushes", "discards", "errors", "refused")
        return ", ".join(f"{counters[name]} {name}" for name in names)

    def _hear(self, trouble: Trouble) -> None:
        """In the serving thread."""
        if trouble.is_end:
            self._end = trouble.text
            self._wake()
        else:
            _log.error("%s: %s", self.path, trouble.text)


def read_ring(store: Store, frontend: str, domid: Domid) -> Ring:
    """What a frontend wrote of its ring. GuestError: it makes no sense."""

    def number(name: str, *, end: int = _U32_END) -> int:
        text = store.read(f"{frontend}/{name}")
        if text is None or not text.isascii() or not text.isdigit():
            raise GuestError(domid, f"its node {name} is no number: {text!r}")
        if len(text) > 10 or int(text) >= end:
            raise GuestError(domid, f"its node {name} is too large: {text}")
        return int(text)

    protocol = store.read(f"{frontend}/protocol")
    if protocol not in ABIS:
        raise GuestError(domid, f"unknown protocol {protocol!r}")
    if store.read(f"{frontend}/ring-page-order") is None:
        names = ["ring-ref"]
    else:
        order = number("ring-page-order", end=MAX_RING_ORDER + 1)
        names = [f"ring-ref{i}" for i in range(1 << order)]
    return Ring(
        domid=domid,
        port=Port(number("event-channel")),
        abi=ABIS[protocol],
        refs=tuple(GrantRef(number(name)) for name in names),
    )
