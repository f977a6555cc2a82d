# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd: serves the domains' network interfaces."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial

import trio

from netbackd.backend import serve_backend
from netbackd.status import fetch_status, to_prometheus, to_table
from xenner import concurrency
from xenner.errors import HostError
from xenner.libxenstore import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser("netbackd", description=__doc__)
    parser.add_argument(
        "--status",
        action="store_true",
        help="show what the running netbackd has moved, and end",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as JSON")
    form.add_argument(
        "--prometheus", action="store_true", help="in Prometheus' text format"
    )
    options = parser.parse_args(arguments)
    if (options.json or options.prometheus) and not options.status:
        parser.error("--json and --prometheus are forms of --status")
    return _show(options) if options.status else _serve()


def _show(options: argparse.Namespace) -> int:
    try:
        counters = fetch_status()
    except HostError as error:
        print(f"netbackd: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(counters))
    else:
        form = to_prometheus if options.prometheus else to_table
        print(form(counters))
    return 0


def _serve() -> int:
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
