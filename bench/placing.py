# SPDX-License-Identifier: GPL-2.0-or-later
"""On which processors a measurement runs, where that would decide it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def processors() -> list[int]:
    """Those that this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def on_processor(number: int) -> Iterator[None]:
    """This thread, and what it starts in the block, have that one alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
