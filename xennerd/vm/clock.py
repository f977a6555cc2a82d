# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's clock: system time from the TSC, steered to the host's.

Guest time is `system_ns + (tsc - timestamp) * rate`. The rate that KVM
reports for the TSC is good to some 10 ppm, which is seconds a day, so every
few seconds the rate is chosen again such that the guest meets the host's
CLOCK_REALTIME at the next look. Time never steps and never runs backwards.
The arithmetic is pure; serve_clock() applies it.
"""

from dataclasses import dataclass
from typing import Any

import trio

from xennerd.vm.kvm._vcpu import ffi, lib

INTERVAL_S = 4.0
_NS = 1_000_000_000
_MAX_SLEW = 0.0005
"""Fraction by which the rate may leave the nominal one: 500 us a second."""


@dataclass(frozen=True, slots=True)
class Rate:
    """ns = (ticks << shift) * mul >> 32, public/xen.h vcpu_time_info."""

    mul: int
    shift: int

    def ns(self, ticks: int) -> int:
        ticks = ticks << self.shift if self.shift >= 0 else ticks >> -self.shift
        return ticks * self.mul >> 32


def rate_for(hz: float) -> Rate:
    """The factors for a TSC of `hz`, with mul in its upper half."""
    mul, shift = _NS * 2.0**32 / hz, 0
    while mul >= 2.0**32:
        mul, shift = mul / 2, shift + 1
    while mul < 2.0**31:
        mul, shift = mul * 2, shift - 1
    return Rate(mul=int(mul), shift=shift)


@dataclass(frozen=True, slots=True)
class Moment:
    """The host's clocks read together."""

    tsc: int
    realtime_ns: int
    monotonic_ns: int


def read_moment(tsc_offset: int = 0) -> Moment:
    """Now; `tsc_offset` is the guest's TSC minus the host's."""
    tsc, real, mono = (ffi.new("uint64_t *") for _ in range(3))
    lib.host_clock(tsc, real, mono)
    return Moment(
        tsc=tsc[0] + tsc_offset, realtime_ns=real[0], monotonic_ns=mono[0]
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """What struct emu_clock holds."""

    tsc_timestamp: int
    system_time_ns: int
    rate: Rate
    wall_ns: int
    """CLOCK_REALTIME at system time 0."""

    @property
    def wall(self) -> tuple[int, int]:
        """wall_ns as seconds and the rest in nanoseconds."""
        return divmod(self.wall_ns, _NS)

    def system_ns(self, tsc: int) -> int:
        return self.system_time_ns + self.rate.ns(
            max(0, tsc - self.tsc_timestamp)
        )


def start_clock(now: Moment, tsc_khz: int) -> Clock:
    """System time 0 is now."""
    return Clock(
        tsc_timestamp=now.tsc,
        system_time_ns=0,
        rate=rate_for(tsc_khz * 1000.0),
        wall_ns=now.realtime_ns,
    )


def steer(clock: Clock, now: Moment, *, hz: float, interval_s: float) -> Clock:
    """The clock that meets the host's after one more interval.

    `hz` is the TSC's rate as far as known. A host clock that was set by more
    than slewing can make good moves the guest's wall clock, not its time.
    """
    system_ns = clock.system_ns(now.tsc)
    error_ns = system_ns - (now.realtime_ns - clock.wall_ns)
    wall_ns = clock.wall_ns
    if abs(error_ns) > _MAX_SLEW * interval_s * _NS:
        limit = int(_MAX_SLEW * interval_s * _NS)
        if abs(error_ns) > 100_000_000:
            wall_ns, error_ns = wall_ns - error_ns, 0
        else:
            error_ns = max(-limit, min(limit, error_ns))
    factor = 1 - error_ns / (interval_s * _NS)
    return Clock(
        tsc_timestamp=now.tsc,
        system_time_ns=system_ns,
        rate=rate_for(hz / factor),
        wall_ns=wall_ns,
    )


def write_clock(target: Any, clock: Clock) -> None:
    """Into a struct emu_clock, under an odd version as emu expects."""
    target.version |= 1
    target.tsc_timestamp = clock.tsc_timestamp
    target.system_time_ns = clock.system_time_ns
    target.tsc_to_system_mul = clock.rate.mul
    target.tsc_shift = clock.rate.shift
    target.wc_sec, target.wc_nsec = clock.wall
    target.version += 1


async def serve_clock(target: Any, clock: Clock, tsc_offset: int) -> None:
    """Keep a running guest's clock on the host's until cancelled."""
    first = read_moment(tsc_offset)
    hz = None
    while True:
        await trio.sleep(INTERVAL_S)
        now = read_moment(tsc_offset)
        elapsed_ns = now.realtime_ns - first.realtime_ns
        mono_ns = now.monotonic_ns - first.monotonic_ns
        if abs(elapsed_ns - mono_ns) < 1_000_000:
            hz = (now.tsc - first.tsc) * _NS / elapsed_ns
        elif hz is None:
            first = now
            continue
        clock = steer(clock, now, hz=hz, interval_s=INTERVAL_S)
        write_clock(target, clock)
