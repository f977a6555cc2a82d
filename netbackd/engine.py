# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/engine.h for Python: one queue, served in a thread of its own."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netbackd._engine import ffi, lib
from netbackd.frontend import Features, Ring
from xenner.errors import HostError, host_error

_BROKEN = "the frontend's ring holds what no ring can hold"
_LOST = "the tap has been removed"


class Filter:
    """The multicast addresses that a frontend wants, for all its queues."""

    def __init__(self) -> None:
        self.handle: Any = ffi.new("struct net_filter *")

    def set_active(self, is_active: bool) -> None:
        """Is multicast that is not in it to be kept from the guest?"""
        self.handle.is_active = int(is_active)


class Limit:
    """What a guest may send, by all its queues together."""

    def __init__(self) -> None:
        handle = lib.net_limit_new()
        if handle == ffi.NULL:
            raise MemoryError
        self.handle: Any = ffi.gc(handle, lib.net_limit_free)

    def set(self, rate: "Rate") -> None:
        """Engines that wait by the old one are to look()."""
        lib.net_limit_set(self.handle, rate.rate_bytes, rate.interval_us)


class Engine:
    """Serves one queue. `on_end` is called in the serving thread, with the
    reason, when it can serve no longer."""

    def __init__(
        self, on_end: Callable[[str], None], filter_: Filter, limit: Limit
    ) -> None:
        """HostError: no event channels or no grants here."""
        self._on_end = on_end
        self._filter, self._limit = filter_, limit
        self._thread: threading.Thread | None = None
        self._engine = lib.net_new(filter_.handle, limit.handle)
        if self._engine == ffi.NULL:
            raise host_error(
                ffi.errno, "cannot have event channels", "is evtchnd running?"
            )

    def attach(self, ring: Ring, features: Features, tap_fd: int) -> None:
        """Map the rings and serve them until detach(). OSError: the frontend's
        rings or channels are not as it says, or the host has no more of what
        it takes."""
        c_ring = ffi.new("struct net_ring *")
        c_ring.domid = ring.domid
        c_ring.tx_ref, c_ring.rx_ref = ring.tx_ref, ring.rx_ref
        c_ring.tx_port, c_ring.rx_port = ring.tx_port, ring.rx_port
        c_link = ffi.new("struct net_link *")
        c_link.fd = tap_fd
        c_link.can_sg = features.can_sg
        c_link.has_rx_notify = features.has_rx_notify
        c_link.gso = (
            lib.NET_GSO_TCPV4 * features.gso_tcpv4
            | lib.NET_GSO_TCPV6 * features.gso_tcpv6
        )
        rc = lib.net_attach(self._engine, c_ring, c_link)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        thread = threading.Thread(target=self._serve, name=f"vif-{ring.domid}")
        try:
            thread.start()
        except RuntimeError as error:
            # Python's word for pthread_create(3)'s EAGAIN.
            lib.net_quiesce(self._engine)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        self._thread = thread

    def look(self) -> None:
        """The limit is another one now."""
        lib.net_look(self._engine)

    def detach(self) -> None:
        """Answer what was taken, and let go."""
        if self._thread is None:
            return
        lib.net_kick(self._engine)
        self._thread.join()
        self._thread = None
        lib.net_quiesce(self._engine)

    def close(self) -> None:
        self.detach()
        lib.net_free(self._engine)
        self._engine = ffi.NULL

    def statistics(self) -> dict[str, int]:
        """struct net_statistics, by name."""
        counters = ffi.new("struct net_statistics *")
        lib.net_statistics(self._engine, counters)
        fields = ffi.typeof("struct net_statistics").fields or ()
        return {name: int(getattr(counters, name)) for name, _ in fields}

    def _serve(self) -> None:
        out = ffi.new("struct net_exit *")
        rc = lib.net_run(self._engine, out)
        if rc < 0:
            self._on_end(f"event channels failed: {os.strerror(-rc)}")
        elif out.why == lib.NET_EXIT_BROKEN_RING:
            self._on_end(_BROKEN)
        elif out.why == lib.NET_EXIT_TAP_LOST:
            self._on_end(_LOST)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a guest may send: so many bytes in each interval; 0: no limit."""

    rate_bytes: int = 0
    interval_us: int = 0


_U32_BITS = 32


def parse_rate(text: str | None) -> Rate:
    """The backend's node "rate", BYTES,MICROSECONDS, as libxl writes it from
    xl.cfg's. HostError: it is something else."""
    if not text:
        return Rate()
    words = text.split(",")
    if len(words) != 2 or not all(w.isascii() and w.isdigit() for w in words):
        raise HostError(f"rate {text!r} is not BYTES,MICROSECONDS")
    rate_bytes, interval_us = map(int, words)
    if not rate_bytes or not interval_us:
        return Rate()
    # As fast in a shorter interval: the engine has 32 bits for each.
    excess = max(rate_bytes.bit_length(), interval_us.bit_length()) - _U32_BITS
    if excess > 0:
        rate_bytes, interval_us = rate_bytes >> excess, interval_us >> excess
    if not rate_bytes or not interval_us:
        raise HostError(f"rate {text} is out of range")
    return Rate(rate_bytes, interval_us)
