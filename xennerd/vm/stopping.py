# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking a guest to power off, and how long it has for that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import trio

from xenner.concurrency import run_abandonable
from xenner.errors import HostError
from xennerd.vm.store.guest import GuestStore

_log = logging.getLogger("xenner")

STOP_LIMIT_S = 75.0
"""How long a guest that was asked to power off may take before it is ended.

Less than TimeoutStopSec= of units/xenner@.service: whoever is killed leaves
its nodes, and who serves them, behind.
"""

ALONE_LIMIT_S = 5.0
"""The same of one whose store is its own: without a disk it has nothing to
lose."""

HEARD_LIMIT_S = 15.0
"""How long it may take to hear of it. One that does not is not at work, or
has not come to its disks yet."""

_LOOK_S = 0.25


async def ask(store: GuestStore) -> bool:
    """Ask the guest to power off. False: xenstore is not there."""
    try:
        # A store that hangs must not keep us from ending.
        await run_abandonable(store.ask, "poweroff")
    except HostError as error:
        _log.warning("cannot ask the guest to power off: %s", error)
        return False
    return True


async def ask_and_wait(
    store: GuestStore, *, limit_s: float, on_asking: Callable[[], None]
) -> None:
    """Ask the guest to power off; returns when there is no more to wait for.

    At once where nobody in the guest listens, soon where it does not take
    what it was asked. Who powers off in time has this cancelled.
    """
    try:
        is_heard = await run_abandonable(store.is_heard)
    except HostError:
        is_heard = False
    if not is_heard:
        _log.info("nobody in the guest listens: it is ended")
        return
    on_asking()
    if not await ask(store):
        return
    with trio.move_on_after(limit_s):
        with trio.move_on_after(HEARD_LIMIT_S) as hearing:
            await _wait_taken(store)
        if hearing.cancelled_caught:
            _log.warning("it does not hear that it is to power off: ended")
            return
        await trio.sleep_forever()
    _log.warning("it has not powered off: ended")


async def _wait_taken(store: GuestStore) -> None:
    while True:
        # A store that is restarted meanwhile has the node again.
        with suppress(HostError):
            if await run_abandonable(store.is_taken):
                return
        await trio.sleep(_LOOK_S)
