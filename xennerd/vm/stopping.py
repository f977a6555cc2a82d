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
"""The time limit for a guest to power off on request.

Less than TimeoutStopSec= of units/xenner@.service: a process that systemd kills
leaves its nodes, and the backends' devices, behind.
"""

ALONE_LIMIT_S = 5.0
"""The time limit for a guest with a store of its own: it has no disk, so it
loses nothing."""

HEARD_LIMIT_S = 15.0
"""The time limit to take the request. A guest that does not take it hangs, or
has not mounted its disks yet."""

_LOOK_S = 0.25


async def request_poweroff(store: GuestStore) -> bool:
    """Request the guest to power off. False: xenstore does not answer."""
    try:
        # In a thread of its own: a store that hangs must not block our end.
        await run_abandonable(store.request_shutdown, "poweroff")
    except HostError as error:
        _log.warning("cannot ask the guest to power off: %s", error)
        return False
    return True


async def request_and_wait(
    store: GuestStore, *, limit_s: float, on_request: Callable[[], None]
) -> None:
    """Request the guest to power off; return when waiting is pointless.

    Returns at once if the guest has no watch on the node, and soon if it does
    not take the request. When the guest powers off, the caller cancels this.
    """
    try:
        is_request_watched = await run_abandonable(store.is_request_watched)
    except HostError:
        is_request_watched = False
    if not is_request_watched:
        _log.info("nobody in the guest listens: it is ended")
        return
    on_request()
    if not await request_poweroff(store):
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
        # A store that restarts meanwhile restores the node.
        with suppress(HostError):
            if await run_abandonable(store.is_request_taken):
                return
        await trio.sleep(_LOOK_S)
