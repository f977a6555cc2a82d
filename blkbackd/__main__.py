# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd: serves the domains' disks."""

import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import trio

from blkbackd.qdisk import Qdisk, refuse
from blkbackd.vbd import Vbd
from xenner.backend.daemon import Backend, run_backend
from xenner.backend.devices import Devices, follow_store
from xenner.backend.status import Form
from xenner.devicemodel import DeviceModels, is_ours
from xenner.libxenstore import Store

_LOOK_S = 1.0
_FORM = Form(
    daemon="blkbackd",
    kind="vbd",
    columns=(
        *("reads", "read_bytes", "writes", "write_bytes", "flushes"),
        *("discards", "errors", "refused", "throttled", "shortages", "depth"),
        *("read_latency", "write_latency"),
    ),
    gauges=("depth", "max_depth"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    backend = Backend(
        description=__doc__, form=_FORM, make_device=Vbd, beside=_beside
    )
    return run_backend(backend, arguments)


async def _beside(devices: Devices) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_sizes, devices)
        if is_ours():
            nursery.start_soon(_serve_qdisks)


async def _serve_qdisks() -> None:
    with Store() as store, closing(DeviceModels(store, refuse)) as models:
        async with trio.open_nursery() as nursery:
            make = partial(Qdisk, models)
            devices = Devices(store, nursery, "qdisk", make)
            await nursery.start(follow_store, store, devices)
            # What goes from now on is seen.
            await trio.to_thread.run_sync(models.release_stale)


async def _watch_sizes(devices: Devices) -> None:
    """Nobody says of all kinds of volumes when they grow: look."""
    while True:
        await trio.sleep(_LOOK_S)
        devices.try_again()
        # A file system that does not answer keeps only this waiting.
        await trio.to_thread.run_sync(devices.host_changed)


if __name__ == "__main__":
    sys.exit(main())
