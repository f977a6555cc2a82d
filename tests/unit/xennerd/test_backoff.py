# SPDX-License-Identifier: GPL-2.0-or-later
"""When a daemon that ended is started again."""

from xennerd.supervisor.backoff import Backoff


def test_at_once_then_later_each_time() -> None:
    backoff = Backoff()
    delays = [backoff.delay_s(0.1) for _ in range(12)]
    assert delays[:4] == [0.0, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == 30.0


def test_a_life_of_some_length_is_forgiven() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(0.1)
    assert backoff.delay_s(10.0) == 0.0
    assert backoff.delay_s(9.9) == 0.2
