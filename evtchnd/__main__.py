# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd: event channels between the host's processes and the guests."""

import argparse
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import trio

from evtchnd.domains import Trusted
from evtchnd.server import Server
from xenner.errors import ConfigError, HostError
from xenner.journallog import set_up_logging
from xenner.listening import find_gid, find_uid, open_listener
from xenner.paths import check_runtime_dir, evtchnd_path, runtime_dir_of
from xenner.service import notify
from xenner.settings import load_settings
from xenner.watchdog import feed_watchdog


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        set_up_logging("evtchnd", settings.level)
        _raise_limit()
        with _open_socket(options.socket) as listener:
            server = Server(
                listener,
                trusted=_trusted(options, settings.evtchnd.trust_uids),
                nofile=settings.evtchnd.max_fds or None,
            )
            trio.run(_serve_until_told, server)
    except (HostError, ConfigError) as error:
        print(f"evtchnd: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _trusted(options: argparse.Namespace, uids: Sequence[int]) -> Trusted:
    """HostError: there is no such group or user."""
    return Trusted(
        uids=frozenset((*options.trust_uid, *uids)),
        gids=frozenset(map(find_gid, options.group)),
        launcher_uids=frozenset(map(find_uid, options.launcher)),
    )


def _open_socket(path: Path) -> AbstractContextManager[socket.socket]:
    """Everybody may connect, and is asked for credentials: domains.py."""
    check_runtime_dir(path.parent)
    kind = socket.SOCK_SEQPACKET
    return open_listener(path, kind, mode=0o666, backlog=128)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evtchnd", description=__doc__)
    parser.add_argument(
        "--socket",
        type=Path,
        default=evtchnd_path(runtime_dir_of(os.environ)),
        metavar="PATH",
        help="where to listen, unless the service manager hands a socket over",
    )
    parser.add_argument(
        "--trust-uid",
        type=int,
        action="append",
        default=[],
        metavar="UID",
        help="a user besides root whose processes act for the host",
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME",
        help="a group whose members' processes act for the host",
    )
    parser.add_argument(
        "--launcher",
        action="append",
        default=[],
        metavar="USER",
        help="a user whose processes may make a domain of themselves, and "
        "act for the host",
    )
    return parser


async def _serve_until_told(server: Server) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            notify("READY=1")
            nursery.start_soon(feed_watchdog, server.check_health)
            async for _number in signals:
                nursery.cancel_scope.cancel()


def _raise_limit() -> None:
    """As many descriptors as we may have: each channel has two of them."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
