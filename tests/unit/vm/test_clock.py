# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's clock: rates, steering, and the fields that emu reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner import abi
from xennerd.vm.clock import (
    Clock,
    Moment,
    Rate,
    rate_for,
    read_moment,
    start_clock,
    steer,
    write_clock,
)

NS = 1_000_000_000
INTERVAL_S = 4.0


@given(khz=st.integers(min_value=10_000, max_value=20_000_000))
def test_rate_is_exact_and_fits(khz: int) -> None:
    rate = rate_for(khz * 1000.0)
    assert 1 << 31 <= rate.mul < 1 << 32
    # A second's ticks are a second, to a part in a thousand million.
    assert rate.ns(khz * 1000) == pytest.approx(NS, abs=2)


def test_rate_shifts_as_xen_defines_it() -> None:
    assert Rate(mul=1 << 31, shift=1).ns(1000) == 1000
    assert Rate(mul=1 << 31, shift=-1).ns(1000) == 250


class Host:
    """A host whose TSC runs off its label and whose clock can be set."""

    def __init__(self, *, khz: int, error_ppm: float) -> None:
        self.hz = khz * 1000 * (1 + error_ppm / 1e6)
        self.now_ns = 5 * NS
        self.set_by_ns = 0

    def pass_s(self, seconds: float) -> Moment:
        self.now_ns += int(seconds * NS)
        return Moment(
            tsc=int(self.now_ns * self.hz / NS),
            realtime_ns=1_700_000_000 * NS + self.now_ns + self.set_by_ns,
            monotonic_ns=self.now_ns,
        )


def error_ns(clock: Clock, now: Moment) -> int:
    wall_ns = clock.wall_ns + clock.system_ns(now.tsc)
    return wall_ns - now.realtime_ns


@given(
    khz=st.integers(min_value=1_000_000, max_value=5_000_000),
    error_ppm=st.floats(min_value=-100, max_value=100),
)
def test_guest_time_meets_the_hosts(khz: int, error_ppm: float) -> None:
    host = Host(khz=khz, error_ppm=error_ppm)
    clock = start_clock(host.pass_s(0), khz)
    assert clock.system_time_ns == 0
    last = 0
    for _ in range(20):
        now = host.pass_s(INTERVAL_S)
        assert clock.system_ns(now.tsc) >= last
        last = clock.system_ns(now.tsc)
        assert abs(error_ns(clock, now)) < 1_000_000
        stepped = steer(clock, now, hz=host.hz, interval_s=INTERVAL_S)
        # No step: the new clock says what the old one said.
        assert stepped.system_ns(now.tsc) == last
        clock = stepped
    assert abs(error_ns(clock, host.pass_s(INTERVAL_S))) < 10_000


def test_a_clock_that_was_set_a_little_is_approached_slowly() -> None:
    host = Host(khz=2_000_000, error_ppm=0)
    clock = start_clock(host.pass_s(0), 2_000_000)
    host.set_by_ns = 30_000_000
    errors = []
    for _ in range(30):
        now = host.pass_s(INTERVAL_S)
        errors.append(abs(error_ns(clock, now)))
        clock = steer(clock, now, hz=host.hz, interval_s=INTERVAL_S)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(30_000_000, abs=1000)
    assert errors[-1] < 10_000


def test_a_clock_that_was_set_by_hours_moves_the_wall_not_time() -> None:
    host = Host(khz=2_000_000, error_ppm=0)
    clock = start_clock(host.pass_s(0), 2_000_000)
    host.set_by_ns = -7200 * NS
    now = host.pass_s(INTERVAL_S)
    before = clock.system_ns(now.tsc)
    clock = steer(clock, now, hz=host.hz, interval_s=INTERVAL_S)
    assert clock.system_ns(now.tsc) == before
    assert abs(error_ns(clock, now)) < 10_000


def test_emu_finds_an_even_version_that_has_moved() -> None:
    memory = bytearray(abi.sizeof("emu_shared"))
    target = abi.view("emu_shared", memory).clock
    target.version = 2
    clock = Clock(
        tsc_timestamp=11,
        system_time_ns=22,
        rate=Rate(mul=33, shift=-4),
        wall_ns=55 * NS + 66,
    )
    write_clock(target, clock)
    assert target.version == 4
    assert (target.tsc_timestamp, target.system_time_ns) == (11, 22)
    assert (target.tsc_to_system_mul, target.tsc_shift) == (33, -4)
    assert (target.wc_sec, target.wc_nsec) == (55, 66)


def test_the_hosts_clocks_are_read_together() -> None:
    first, second = read_moment(), read_moment(tsc_offset=1 << 60)
    assert second.tsc - (1 << 60) >= first.tsc
    assert second.monotonic_ns >= first.monotonic_ns
