# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/engine.h for Python: one ring, served in a thread of its own."""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from blkbackd._engine import ffi, lib
from blkbackd.record import Record
from blkbackd.volume import Volume
from xenner.backend.status import Value
from xenner.errors import host_error
from xenner.types import Domid, GrantRef, Port

MAX_RING_ORDER: int = lib.BLK_MAX_RING_ORDER
MAX_SEGMENTS: int = lib.BLK_MAX_SEGMENTS
RECORD_BYTES: int = lib.BLK_RECORD_BYTES
_SECTOR_BYTES = 512

# Values of the frontend's node "protocol" (io/protocols.h). A frontend that
# says nothing has the ABI of this machine.
ABIS = {
    "x86_64-abi": lib.BLK_ABI_64,
    "x86_32-abi": lib.BLK_ABI_32,
    None: lib.BLK_ABI_64,
}


@dataclass(frozen=True, slots=True)
class Ring:
    """Where a frontend's ring is."""

    domid: Domid
    port: Port
    abi: int
    refs: tuple[GrantRef, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one disk; 0 per second: none. A burst is what may come at once
    after a pause."""

    requests_per_s: int = 0
    requests_burst: int = 0
    bytes_per_s: int = 0
    bytes_burst: int = 0


class Limiter:
    """Token buckets that all rings of a disk draw from."""

    def __init__(self) -> None:
        pointer = lib.blk_limiter_new()
        if pointer == ffi.NULL:
            raise MemoryError
        self.pointer = ffi.gc(pointer, lib.blk_limiter_free)

    def set(self, limits: Limits) -> None:
        """At once, also for a disk that is being served."""
        wanted = ffi.new("struct blk_limits *")
        for field in fields(limits):
            setattr(wanted, field.name, getattr(limits, field.name))
        lib.blk_limiter_set(self.pointer, wanted)


class Engine:
    """Serves one ring. `on_event` is called in the serving thread."""

    def __init__(self, on_event: Callable[["Trouble"], None]) -> None:
        """HostError: no event channels or no grants here."""
        self._on_event = on_event
        self._thread: threading.Thread | None = None
        self._engine = lib.blk_new()
        if self._engine == ffi.NULL:
            raise host_error(
                ffi.errno, "cannot have event channels", "is evtchnd running?"
            )

    def attach(
        self,
        ring: Ring,
        volume: Volume,
        record: Record | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        """Map the ring and serve it until detach(). OSError: the frontend's
        ring or channel is not as it says, or the host has no more of what it
        takes. With a record, what one that was killed had taken is done
        first."""
        self._limiter = limiter
        c_ring = ffi.new("struct blk_ring *")
        c_ring.domid, c_ring.port, c_ring.abi = ring.domid, ring.port, ring.abi
        c_ring.nr_pages = len(ring.refs)
        c_ring.ref[0 : len(ring.refs)] = ring.refs
        if record is not None:
            c_ring.record_fd, c_ring.record_key = record.fd, record.key
        c_volume = ffi.new("struct blk_volume *")
        c_volume.fd = volume.fd
        c_volume.block_bytes = volume.block_bytes
        c_volume.memory_align = volume.memory_align
        c_volume.is_read_only = volume.is_read_only
        c_volume.is_device = volume.is_device
        c_volume.can_discard = volume.discard_bytes > 0
        c_volume.can_erase_securely = volume.can_erase_securely
        c_volume.nr_sectors = volume.nr_sectors
        if limiter is not None:
            c_volume.limiter = limiter.pointer
        rc = lib.blk_attach(self._engine, c_ring, c_volume)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        thread = threading.Thread(target=self._serve, name=f"vbd-{ring.domid}")
        try:
            thread.start()
        except RuntimeError as error:
            # Python's word for pthread_create(3)'s EAGAIN.
            lib.blk_quiesce(self._engine)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        self._thread = thread

    def detach(self) -> bool:
        """Answer what was taken, and let go. Blocks for the disk. True: all
        of it; False: the rest is on record, for the next one."""
        if self._thread is None:
            return True
        lib.blk_kick(self._engine)
        self._thread.join()
        self._thread = None
        return not lib.blk_quiesce(self._engine)

    def close(self) -> None:
        self.detach()
        lib.blk_free(self._engine)
        self._engine = ffi.NULL

    def resize(self, nr_sectors: int) -> None:
        """The volume has another size now. In any thread."""
        lib.blk_resize(self._engine, nr_sectors)

    def statistics(self) -> dict[str, Value]:
        """struct blk_statistics, by name, but with bytes for sectors."""
        counters = ffi.new("struct blk_statistics *")
        lib.blk_statistics(self._engine, counters)
        found: dict[str, Value] = {}
        for name, field in ffi.typeof("struct blk_statistics").fields or ():
            value = getattr(counters, name)
            if field.type.kind == "array":
                found[name] = list(map(int, value))
            elif name.endswith("_sectors"):
                bytes_name = name.removesuffix("sectors") + "bytes"
                found[bytes_name] = int(value) * _SECTOR_BYTES
            else:
                found[name] = int(value)
        return found

    def _serve(self) -> None:
        out = ffi.new("struct blk_exit *")
        while True:
            rc = lib.blk_run(self._engine, out)
            if rc < 0:
                text = f"event channels failed: {os.strerror(-rc)}"
            elif out.why == lib.BLK_EXIT_VOLUME_ERROR:
                text = f"sector {out.sector}: {os.strerror(out.error)}"
                self._on_event(Trouble(text, is_end=False))
                continue
            elif out.why == lib.BLK_EXIT_SHORTAGE:
                text = "the host is short of memory or threads: requests wait"
                self._on_event(Trouble(text, is_end=False))
                continue
            elif out.why == lib.BLK_EXIT_BROKEN_RING:
                text = "the frontend's ring claims more than it can hold"
            else:
                return
            self._on_event(Trouble(text, is_end=True))
            return


def add_up(queues: Sequence[dict[str, Value]]) -> dict[str, Value]:
    """The statistics() of a disk's queues as the disk's; `max_depth` is that
    of the deepest."""
    total: dict[str, Value] = {}
    for counters in queues:
        for name, value in counters.items():
            before = total.get(name)
            if isinstance(value, int):
                assert before is None or isinstance(before, int)
                total[name] = (
                    max(before or 0, value)
                    if name == "max_depth"
                    else (before or 0) + value
                )
            else:
                assert not isinstance(before, int)
                places = before or [0] * len(value)
                total[name] = list(map(sum, zip(places, value, strict=True)))
    return total


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a serving thread has to tell. `is_end`: it serves no longer."""

    text: str
    is_end: bool
