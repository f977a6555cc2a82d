# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual block device: its nodes in xenstore, its volume, its engine.

Calls block (xenstore, disk): the caller has a thread for them.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from blkbackd.config import (
    LIMITS,
    may_share,
    may_write,
    parse_params,
    read_limits,
)
from blkbackd.engine import (
    MAX_RING_ORDER,
    MAX_SEGMENTS,
    RECORD_BYTES,
    Engine,
    Limiter,
    Limits,
    Ring,
    Trouble,
    add_up,
)
from blkbackd.frontend import MAX_QUEUES, read_rings
from blkbackd.record import Record, drop_record, open_record
from blkbackd.volume import Volume, open_volume
from xenner.backend.device import Device
from xenner.backend.lines import reason_of
from xenner.backend.status import Value
from xenner.errors import (
    SHORTAGES,
    GuestError,
    HostError,
    host_error,
)
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import XenbusState

# io/blkif.h
_VDISK_CDROM, _VDISK_REMOVABLE, _VDISK_READONLY = 1, 2, 4


class Vbd(Device):
    """backend/vbd/<domid>/<devid>, from its first node to its last."""

    logger = logging.getLogger("blkbackd")
    config_nodes = ("params", "mode", "device-type")
    counted = ("reads", "writes", "flushes", "discards", "errors", "refused")
    waits = True

    def __init__(
        self, store: Store, path: str, domid: Domid, wake: Callable[[], None]
    ) -> None:
        """`wake` asks for another step(); it may be called in any thread."""
        super().__init__(store, path, domid, wake)
        self._volume: Volume | None = None
        # One for each queue there has been, in order.
        self._engines: list[Engine] = []
        # Counters are read in another thread than step()'s.
        self._counting = threading.Lock()
        self._records: list[Record] = []
        self._is_attached = False
        self._limiter = Limiter()
        self._limits_told: Mapping[str, str | None] = dict.fromkeys(LIMITS)

    @property
    def is_prepared(self) -> bool:
        return self._volume is not None

    @property
    def is_attached(self) -> bool:
        return self._is_attached

    def statistics(self) -> Mapping[str, Value]:
        """The counters of all queues since this process has the device; none
        before it is attached first."""
        with self._counting:
            return add_up([engine.statistics() for engine in self._engines])

    def _let_go(self) -> None:
        with self._counting:
            for engine in self._engines:
                engine.close()
            self._engines.clear()
        self._close_volume()

    def _forget(self) -> None:
        self._drop_records()

    def _closed(self) -> None:
        self._close_volume()
        self._drop_records()

    def _drop_records(self, first: int = 0) -> None:
        for number in range(first, MAX_QUEUES):
            drop_record(self._record_name(number))

    def _close_volume(self) -> None:
        # Nobody's any more: it may be opened by another, or grow.
        if self._volume is not None:
            self._volume.close()
            self._volume = None

    def _prepare(self) -> dict[str, object]:
        params = self._node("params")
        if not params:
            raise HostError("no params: what is the disk to be?")
        path = parse_params(params)
        self._volume = open_volume(
            path,
            is_read_only=self._is_read_only(),
            is_shared=may_share(self._node("mode") or ""),
            may_discard=self._node("discard-enable") != "0",
        )
        if self._volume.buffered_reason:
            self.log.warning(
                "%s is not O_DIRECT: %s",
                path,
                self._volume.buffered_reason,
            )
        self._warn_of_cut(self._volume)
        nodes: dict[str, object] = {"physical-device-path": path}
        if self._volume.device:
            nodes["physical-device"] = self._volume.device
        return nodes | {
            "hotplug-status": "connected",
            "feature-max-indirect-segments": MAX_SEGMENTS,
            "max-ring-page-order": MAX_RING_ORDER,
            "multi-queue-max-queues": MAX_QUEUES,
        }

    def _is_read_only(self) -> bool:
        return not may_write(self._node("mode") or "") or self._is_cdrom()

    def _is_cdrom(self) -> bool:
        return self._node("device-type") == "cdrom"

    def _attach(self) -> str:
        volume = self._volume
        assert volume is not None
        rings = read_rings(self._frontend_node, self._domid)
        # It may have become another while nobody was connected.
        try:
            volume = self._volume = volume.as_it_is()
        except OSError as error:
            raise HostError(f"{volume.path}: {error.strerror}") from error
        self._store.write(self.path, self._properties(volume))
        self._have_engines(len(rings))
        with ExitStack() as on_fail:
            on_fail.callback(self._give_up)
            self._open_records(rings)
            for engine, ring, record in zip(
                self._engines, rings, self._records, strict=False
            ):
                try:
                    engine.attach(ring, volume, record, self._limiter)
                except OSError as error:
                    raise attach_error(self._domid, error) from error
            on_fail.pop_all()
        self._is_attached = True
        size = f"{volume.nr_sectors >> 11} MiB of {volume.path}"
        size += ", read only" if volume.is_read_only else ""
        return size + (f", {len(rings)} queues" if len(rings) > 1 else "")

    def _have_engines(self, count: int) -> None:
        """So many, or more: what they have counted is kept."""
        while len(self._engines) < count:
            engine = Engine(self._hear)
            with self._counting:
                self._engines.append(engine)

    def _open_records(self, rings: list[Ring]) -> None:
        """Open a record of requests in flight for each queue."""
        # Domain numbers are reused, UUIDs are not. A guest that rebooted or
        # reloaded its driver is not connected yet: nothing in flight belongs to
        # its ring, though grants and port may be the same.
        uuid = self._store.read(f"/local/domain/{self._domid}/vm")
        seen = self._seen
        is_kept = seen.backend is seen.frontend is XenbusState.CONNECTED
        for number, ring in enumerate(rings):
            record = open_record(
                self._record_name(number),
                (uuid, ring),
                RECORD_BYTES,
                is_kept=is_kept,
            )
            self._records.append(record)
        # Those of queues that it had before.
        self._drop_records(len(rings))

    def _record_name(self, number: int) -> str:
        name = "-".join(self.path.split("/")[2:])
        return f"{name}-{number}" if number else name

    def _properties(self, volume: Volume) -> dict[str, object]:
        """The nodes that Linux' backend writes when it connects."""
        info = _VDISK_CDROM if self._is_cdrom() else 0
        info |= _VDISK_REMOVABLE if volume.is_removable else 0
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
            values["discard-alignment"] = volume.discard_offset_bytes
            values["discard-secure"] = int(volume.can_erase_securely)
        return values

    def _give_up(self) -> None:
        """Not all of it can be attached; what was in flight still is."""
        for engine in self._engines:
            engine.detach()
        for record in self._records:
            record.keep()
        self._records.clear()

    def _detach(self) -> None:
        # Those that are attached have a record.
        for engine, record in zip(self._engines, self._records, strict=False):
            if engine.detach():
                record.close()
            else:
                record.keep()
        self._records.clear()
        self._is_attached = False

    def host_changed(self) -> None:
        volume = self._volume
        # Its thread may be about to close it.
        with suppress(OSError):
            if (
                self._is_attached
                and volume is not None
                and volume.nr_sectors_now() != volume.nr_sectors
            ):
                self._wake()

    def _follow(self) -> None:
        self._follow_limits()
        if self._is_attached:
            self._follow_size()

    def _follow_limits(self) -> None:
        told = {name: self._node(name) for name in LIMITS}
        if told == self._limits_told:
            return
        self._limits_told = told
        try:
            limits = read_limits(told)
        except HostError as error:
            self.log.warning("%s", error)
            return
        self._limiter.set(limits)
        self.log.info("%s", _say_limits(limits))

    def _follow_size(self) -> None:
        """As Linux' backend: the new size, and the state once more."""
        before = self._volume
        assert before is not None
        try:
            now = before.as_it_is()
        except OSError as error:
            self._tell_error(f"{before.path}: {error.strerror}")
            return
        if now.nr_sectors == before.nr_sectors:
            return
        self._volume = now
        for engine in self._engines:
            engine.resize(now.nr_sectors)
        self._store.write(self.path, {"sectors": now.nr_sectors})
        self._store.write_existing(
            f"{self.path}/state", int(XenbusState.CONNECTED)
        )
        self.log.info(
            "%s has %d sectors now, it had %d",
            *(now.path, now.nr_sectors, before.nr_sectors),
        )
        self._warn_of_cut(now)

    def _warn_of_cut(self, volume: Volume) -> None:
        # Its reader learns of a volume that is gone.
        with suppress(OSError):
            if cut := volume.cut():
                self.log.warning("%s", cut)

    def _tell_error(self, text: str) -> None:
        """In the journal and where a toolstack looks; it is served on."""
        text = reason_of(text)
        self.log.error("%s", text)
        self._store.write(f"error/{self.path}", {"error": text})

    def _hear(self, trouble: Trouble) -> None:
        """In the serving thread."""
        if trouble.is_end:
            self._end_with(trouble.text)
        else:
            self._tell_error(trouble.text)


def attach_error(domid: Domid, error: OSError) -> GuestError | HostError:
    """Whose fault it is that a ring is not served."""
    if error.errno in SHORTAGES:
        return host_error(
            error.errno,
            "its ring cannot be served",
            "are fs.aio-max-nr, LimitNOFILE and TasksMax large enough?",
        )
    return GuestError(domid, f"its ring cannot be had: {error.strerror}")


def _say_limits(limits: Limits) -> str:
    def word(per_s: int, burst: int, unit: str) -> str:
        return f"{per_s} {unit}/s, {burst} at once" if per_s else ""

    words = (
        word(limits.requests_per_s, limits.requests_burst, "requests"),
        word(limits.bytes_per_s, limits.bytes_burst, "bytes"),
    )
    return "; ".join(filter(None, words)) or "no limits"
