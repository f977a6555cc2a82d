# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd: serves the domains' network interfaces."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial

import trio

from netbackd.backend import serve_backend
from xenner import concurrency
from xenner.errors import HostError
from xenner.libxenstore import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    argparse.ArgumentParser("netbackd", description=__doc__).parse_args(
        arguments
    )
    error: BaseException | None = None
    logging.basicConfig(format="netbackd: %(message)s", level=logging.INFO)
    try:
        with Store() as store:
            concurrency.run(partial(_serve_until_told, store))
    except* HostError as group:
        error = group
    if error is None:
        return 0
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    print(f"netbackd: {error}", file=sys.stderr)
    return 1


async def _serve_until_told(store: Store) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_backend, store)
            async for _number in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
