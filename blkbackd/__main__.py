# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd: serves the domains' disks."""

import sys
from collections.abc import Sequence

import trio

from blkbackd.vbd import Vbd
from xenner.backend.daemon import Backend, run_backend
from xenner.backend.devices import Devices
from xenner.backend.status import Form

_LOOK_S = 1.0
_FORM = Form(
    daemon="blkbackd",
    kind="vbd",
    columns=(
        *("reads", "read_bytes", "writes", "write_bytes", "flushes"),
        *("discards", "errors", "refused", "throttled", "depth"),
        *("read_latency", "write_latency"),
    ),
    gauges=("depth", "max_depth"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    backend = Backend(
        description=__doc__, form=_FORM, make_device=Vbd, beside=_watch_sizes
    )
    return run_backend(backend, arguments)


async def _watch_sizes(devices: Devices) -> None:
    """Nobody says of all kinds of volumes when they grow: look."""
    while True:
        await trio.sleep(_LOOK_S)
        # A file system that does not answer keeps only this waiting.
        await trio.to_thread.run_sync(devices.host_changed)


if __name__ == "__main__":
    sys.exit(main())
