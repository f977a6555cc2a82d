# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual block device: its nodes in xenstore, its volume, its engine.

Calls block (xenstore, disk): the caller has a thread for them.
"""

import logging
from collections.abc import Callable
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
from xenner.backend.device import Device
from xenner.errors import GuestError, HostError
from xenner.libxenstore import Store
from xenner.types import Domid, GrantRef, Port
from xenner.xenbus import XenbusState

# io/blkif.h
_VDISK_CDROM, _VDISK_READONLY = 1, 4
_U32_END = 1 << 32


class Vbd(Device):
    """backend/vbd/<domid>/<devid>, from its first node to its last."""

    log = logging.getLogger("blkbackd")
    wishes = ("params", "mode")
    counted = ("reads", "writes", "flushes", "discards", "errors", "refused")

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        super().__init__(store, path, domid, wake)
        self._volume: Volume | None = None
        self._engine: Engine | None = None
        self._record: Record | None = None
        self._is_attached = False

    @property
    def is_prepared(self) -> bool:
        return self._volume is not None

    @property
    def is_attached(self) -> bool:
        return self._is_attached

    def statistics(self) -> dict[str, int]:
        """The engine's counters; none before it is attached first."""
        return {} if self._engine is None else self._engine.statistics()

    def _let_go(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._closed()

    def _closed(self) -> None:
        # Nobody's any more: it may be opened by another, or grow.
        if self._volume is not None:
            self._volume.close()
            self._volume = None

    def _prepare(self) -> dict[str, object]:
        params = self._node("params")
        if not params:
            raise HostError("no params: what is the disk to be?")
        # As the hotplug script "block" is told: a type may stand before it.
        kind, _, rest = params.rpartition(":")
        path = Path(rest if kind in ("phy", "file", "aio", "raw") else params)
        self._volume = open_volume(
            path,
            is_read_only=self._is_read_only(),
            may_discard=self._node("discard-enable") != "0",
        )
        if self._volume.buffered_reason:
            self.log.warning(
                "%s: %s is not O_DIRECT: %s",
                self.path,
                path,
                self._volume.buffered_reason,
            )
        return {
            "physical-device-path": path,
            "hotplug-status": "connected",
            "feature-max-indirect-segments": MAX_SEGMENTS,
            "max-ring-page-order": MAX_RING_ORDER,
        }

    def _is_read_only(self) -> bool:
        return self._node("mode") != "w" or self._is_cdrom()

    def _is_cdrom(self) -> bool:
        return self._node("device-type") == "cdrom"

    def _attach(self) -> str:
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
        size = f"{volume.nr_sectors >> 11} MiB of {volume.path}"
        return size + (", read only" if volume.is_read_only else "")

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
            values["discard-secure"] = int(volume.can_erase_securely())
        return values

    def _detach(self) -> None:
        if self._engine is not None:
            self._engine.detach()
        if self._record is not None:
            self._record.close()
            self._record = None
        self._is_attached = False

    def _hear(self, trouble: Trouble) -> None:
        """In the serving thread."""
        if trouble.is_end:
            self._end_with(trouble.text)
        else:
            self.log.error("%s: %s", self.path, trouble.text)


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
