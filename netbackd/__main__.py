# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd: serves the domains' network interfaces."""

import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import trio

from netbackd import tap
from netbackd.vif import Vif
from xenner.backend.daemon import Backend, run_backend
from xenner.backend.devices import Devices
from xenner.backend.status import Form
from xenner.libxenstore import Store

_log = logging.getLogger("netbackd")
_RTMGRP_LINK = 1  # linux/rtnetlink.h
_MESSAGE_BYTES = 65536
_LOOK_S = 1
_FORM = Form(
    daemon="netbackd",
    kind="vif",
    columns=(
        *("tx_packets", "tx_bytes", "rx_packets", "rx_bytes"),
        *("tx_refused", "tx_dropped", "rx_dropped", "rx_starved"),
        *("tx_throttled", "shortages"),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    backend = Backend(
        description=__doc__,
        form=_FORM,
        make_device=Vif,
        begin=_remove_stale,
        beside=_beside,
    )
    return run_backend(backend, arguments)


def _remove_stale(store: Store) -> None:
    """Remove the taps of devices that went while nobody served them."""
    for one in tap.our_taps():
        if store.read(f"{one.path}/state") is None:
            _log.info("%s: its device %s is no more", one.name, one.path)
            tap.remove_tap(one)


async def _watch_links(devices: Devices) -> None:
    """rtnetlink(7): a message for each interface that changes."""
    with trio.socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    ) as links:
        await links.bind((0, _RTMGRP_LINK))
        while True:
            # Too many to be kept: something has changed for sure.
            with suppress(OSError):
                await links.recv(_MESSAGE_BYTES)
            devices.host_changed()


async def _look_again(devices: Devices) -> None:
    """What the host was short of it may have now."""
    while True:
        await trio.sleep(_LOOK_S)
        devices.try_again()


async def _beside(devices: Devices) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_links, devices)
        nursery.start_soon(_look_again, devices)


if __name__ == "__main__":
    sys.exit(main())
