# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-xenstored: xenstore for guests and host, a process of its own."""

import argparse
import logging
import os
import signal
import socket
import sys
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import trio

from xenner import concurrency
from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError
from xenner.evtchn import Evtchnd
from xenner.listening import open_listener
from xenner.paths import check_runtime_dir, runtime_dir_of
from xenner.reconnecting import keep_connected
from xenner.service import notify
from xenner.settings import StoreSettings, load_settings
from xenner.watchdog import feed_watchdog
from xenner.xenstore import Xenstore
from xenstored.domain_death import await_returns, follow_ends
from xenstored.external import VARIABLE, run_instead
from xenstored.guests import Guests
from xenstored.server import serve_store
from xenstored.statefile import StateFile

_BACKLOG = 64


def main() -> None:
    """Parse, serve, turn errors into one line and a status."""
    parser = argparse.ArgumentParser("xenner-xenstored", description=__doc__)
    add = parser.add_argument
    add(
        "--socket",
        metavar="PATH",
        type=Path,
        required=True,
        help="where clients connect, unless the service manager hands a socket"
        " over",
    )
    add(
        "--group",
        metavar="NAME",
        help="its members may connect; each has all of domain 0's rights",
    )
    add(
        "--state",
        metavar="DIRECTORY",
        type=Path,
        help="where the tree is kept, to come back from",
    )
    add(
        "--evtchnd",
        metavar="PATH",
        type=Path,
        help="evtchnd's socket: serve guests' rings",
    )
    add(
        "--runtime-dir",
        metavar="DIRECTORY",
        type=Path,
        default=runtime_dir_of(os.environ),
        help="where the guests' vmcores are (default: %(default)s)",
    )
    add("--sync", action="store_true", help="survive a power cut as well")
    add(
        "--instead",
        default=os.environ.get(VARIABLE, ""),
        metavar="PROGRAM",
        help="a real xenstored or oxenstored that serves (default: what"
        f" {VARIABLE} has)",
    )
    arguments = parser.parse_args()
    try:
        check_runtime_dir(arguments.runtime_dir)
        settings = load_settings()
        logging.basicConfig(
            level=settings.level, format="xenstore: %(message)s"
        )
        if instead := arguments.instead or settings.store.program:
            run_instead(
                instead,
                arguments.socket,
                runtime_dir=arguments.runtime_dir,
                group=arguments.group,
            )
        else:
            _run(arguments, settings.store)
    except (HostError, ConfigError) as error:
        print(f"xenstore: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _run(arguments: argparse.Namespace, settings: StoreSettings) -> None:
    """Our own store, until it is told to end."""
    with ExitStack() as stack:
        listener = stack.enter_context(_open_socket(arguments))
        guests = None
        if arguments.evtchnd is not None:
            evtchnd = stack.enter_context(Evtchnd(arguments.evtchnd))
            guests = Guests(evtchnd, arguments.runtime_dir)
        state = None
        if arguments.state is not None:
            is_sync = arguments.sync or settings.sync
            state = StateFile(arguments.state, sync=is_sync)
        concurrency.run(
            partial(
                _serve_until_signal,
                listener,
                path=arguments.socket,
                state=state,
                guests=guests,
            )
        )


def _open_socket(
    arguments: argparse.Namespace,
) -> AbstractContextManager[socket.socket]:
    """A client that can connect is privileged: the owner, and `--group`."""
    group = arguments.group
    return open_listener(
        arguments.socket,
        socket.SOCK_STREAM,
        mode=0o600 if group is None else 0o660,
        backlog=_BACKLOG,
        group=group,
    )


async def _serve_until_signal(
    listener: socket.socket,
    *,
    path: Path,
    state: StateFile | None,
    guests: Guests | None,
) -> None:
    check_health = partial(run_abandonable, _request_once, path)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as caught:
            open_ring = guests.open_ring if guests else None
            store = await nursery.start(
                partial(serve_store, listener, state=state, open_ring=open_ring)
            )
            if guests is not None:
                nursery.start_soon(keep_connected, guests.evtchnd)
                nursery.start_soon(follow_ends, guests, store)
                nursery.start_soon(await_returns, store)
            print("listening", flush=True)
            notify("READY=1")
            nursery.start_soon(feed_watchdog, check_health)
            await anext(caught)
            if guests is not None:
                guests.evtchnd.give_up()
            nursery.cancel_scope.cancel()


def _request_once(path: Path) -> None:
    """What a client of ours does; that of the watchdog is one."""
    with Xenstore(path) as store:
        store.directory("/")


if __name__ == "__main__":
    main()
