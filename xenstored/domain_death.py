# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains that end: evtchnd raises VIRQ_DOM_EXC, and the store releases them.
Also those that ended while the store was not running.

As in xenstored (domain_cleanup() in its xenstored_domain.c): @releaseDomain
fires for a domain that shut down, and one that is gone is released.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress

import trio

from xenner import abi
from xenner.concurrency import run_abandonable
from xenner.evtchn import EvtchndError
from xenstored.guests import Guests
from xenstored.server import StoreHandle

# About how long domains take to reconnect to a restarted evtchnd.
_RETURN_S = 2.0
_FIRST_PAUSE_S = 0.05

_log = logging.getLogger("xenner.store")


async def follow_ends(guests: Guests, store: StoreHandle) -> None:
    """Until cancelled. Somebody else's VIRQ_DOM_EXC is told of, and then only
    RELEASE ends a domain here."""
    evtchnd = guests.evtchnd
    try:
        channel = await run_abandonable(evtchnd.bind_virq, abi.VIRQ_DOM_EXC)
    except EvtchndError as error:
        _log.warning("domains' ends are not heard of: %s", error.strerror)
        return
    with closing(channel):
        nr_before = evtchnd.nr_reconnects
        while True:
            # One may have ended before the port was there.
            with suppress(OSError):
                await _look(guests, store)
            if evtchnd.nr_reconnects != nr_before:
                nr_before = evtchnd.nr_reconnects
                await trio.sleep(_RETURN_S)
                continue
            await trio.lowlevel.wait_readable(channel.in_fd)
            with suppress(BlockingIOError):
                os.eventfd_read(channel.in_fd)


async def await_returns(store: StoreHandle) -> None:
    """Until the domains that an earlier store has left have their rings, or
    have ended. evtchnd may have been restarted as well."""
    pause_s = _FIRST_PAUSE_S
    while not await store.resume():
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, _RETURN_S)


async def _look(guests: Guests, store: StoreHandle) -> None:
    for domid in await store.domids():
        match await run_abandonable(guests.query_running, domid):
            case False:
                await store.shut_down(domid)
            case None if guests.is_gone(domid):
                await store.release(domid)
