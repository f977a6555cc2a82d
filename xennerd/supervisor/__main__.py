# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd: starts guests, watches them, and does what their files say when
one is killed. By hand it also runs the daemons that serve them."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from xenner import concurrency, service
from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError
from xenner.listening import give_to, listen_at
from xenner.paths import (
    DUMP_DIR,
    STATE_DIR,
    Paths,
    log_dir_of,
    make_runtime_dir,
    runtime_dir_of,
    xenstore_of,
)
from xenner.settings import load_settings
from xenner.watchdog import feed_watchdog
from xennerd.qmp.client import QmpClient
from xennerd.qmp.server import serve_stream
from xennerd.supervisor.control import Control
from xennerd.supervisor.crash_handler import CrashHandler
from xennerd.supervisor.daemons import Daemon, stop_all
from xennerd.supervisor.domains import Domains
from xennerd.supervisor.events import log_event
from xennerd.supervisor.launcher import (
    Launcher,
    ProcessLauncher,
    SystemdLauncher,
)
from xennerd.supervisor.programs import (
    DAEMONS,
    environment,
    programs,
)
from xennerd.units.client import UnitsByHelper
from xennerd.units.manager import Systemd, Units

GROUP = "xenner"
"""Its members may use the control socket, besides root."""

_BACKLOG = 16

_log = logging.getLogger("xennerd")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        level = load_settings().level
    except ConfigError as fault:
        print(f"xennerd: {fault}", file=sys.stderr)
        return 2
    logging.basicConfig(format="xennerd: %(message)s", level=level)
    paths = Paths(
        options.runtime_dir,
        options.xenstore,
        state_dir=options.state_dir,
        log_dir=options.log_dir,
        dump_dir=options.dump_dir,
    )
    # For Xen's libraries in this process.
    os.environ["XENSTORED_PATH"] = str(paths.xenstore)
    error: BaseException | None = None
    try:
        make_runtime_dir(paths.runtime_dir, with_parents=True)
        paths.xenstore.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        concurrency.run(partial(_serve, paths, options))
    except* (HostError, OSError) as group:
        error = _first(group)
    if error is not None:
        print(f"xennerd: {error}", file=sys.stderr)
    return 0 if error is None else 1


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("xennerd", description=__doc__)
    add = parser.add_argument
    add(
        "--units",
        action="store_true",
        help="guests are units of systemd, and so are the daemons",
    )
    add(
        "--daemons",
        type=_daemon_names,
        default=DAEMONS,
        metavar="NAMES",
        help=f"which of {','.join(DAEMONS)} to run by hand (all)",
    )
    add(
        "--while-stdin",
        action="store_true",
        help="for one guest's sake: end, with the daemons and the runtime "
        "directory, when standard input does",
    )
    for name, default, text in (
        (
            "--runtime-dir",
            runtime_dir_of(os.environ),
            "where domains' memory is",
        ),
        ("--xenstore", xenstore_of(os.environ), "xenstore's socket"),
        ("--state-dir", STATE_DIR, "what xenstore keeps"),
        ("--dump-dir", DUMP_DIR, "where cores go"),
        ("--log-dir", log_dir_of(os.environ), "what guests' processes say"),
    ):
        add(
            name,
            type=Path,
            default=default,
            metavar="PATH",
            help=f"{text} (%(default)s)",
        )
    return parser


def _daemon_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in DAEMONS:
            raise argparse.ArgumentTypeError(
                f"{name}: one of {', '.join(DAEMONS)}"
            )
    return names


async def _serve(paths: Paths, options: argparse.Namespace) -> None:
    """Serve until a signal. Guests run on; without systemd the daemons run on
    too while there is a guest."""
    control = Control()
    daemons: list[Daemon] = []
    units: Units = UnitsByHelper() if options.units else Systemd()
    log = partial(log_event, units)
    launcher: Launcher = SystemdLauncher(paths, units)
    if not options.units:
        inherited = environment(paths, os.environ)
        launcher = ProcessLauncher(paths, environment=inherited)
        daemons = [
            Daemon(
                program,
                environment=inherited,
                on_change=control.daemon_changed,
            )
            for program in programs(paths)
            if program.name in options.daemons
        ]
    domains = Domains(
        paths.runtime_dir,
        launcher=launcher,
        crash_handler=CrashHandler(paths, log),
        log_event=log,
        emit=control.emit,
    )
    path = paths.xennerd
    # Open to the end: a second signal must not kill us before the daemons.
    receiver = trio.open_signal_receiver(
        signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    )
    with receiver as signals:
        async with _listening(path) as listener:
            try:
                await _serve_until_told(
                    path,
                    listener,
                    control,
                    daemons,
                    domains,
                    signals=signals,
                    ends_with_stdin=options.while_stdin,
                )
            finally:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_pass_over, signals)
                        if options.while_stdin:
                            await stop_all(daemons)
                            shutil.rmtree(paths.runtime_dir, ignore_errors=True)
                        else:
                            await _leave(daemons, domains)
                        nursery.cancel_scope.cancel()


async def _wait_end(scope: trio.CancelScope) -> None:
    """Cancel when the other end of standard input is closed."""
    while True:
        await trio.lowlevel.wait_readable(0)
        if not os.read(0, 4096):
            scope.cancel()


async def _pass_over(signals: AsyncIterator[int]) -> None:
    """Consume signals: when the receiver closes, pending ones would kill us."""
    async for _number in signals:
        pass


async def _serve_until_told(
    path: Path,
    listener: trio.SocketListener,
    control: Control,
    daemons: Sequence[Daemon],
    domains: Domains,
    *,
    signals: AsyncIterator[int],
    ends_with_stdin: bool,
) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_stream, commands=control)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        for daemon in daemons:
            await nursery.start(daemon.keep_running)
        control.serve(domains)
        if ends_with_stdin:
            # Not earlier: the daemons that an earlier xennerd left are found by
            # now, and end with us.
            nursery.start_soon(_wait_end, nursery.cancel_scope)
        nursery.start_soon(domains.watch)
        service.notify("READY=1")
        check_health = partial(run_abandonable, _request_once, path)
        nursery.start_soon(feed_watchdog, check_health)
        _log.info("ready")
        async for _number in signals:
            nursery.cancel_scope.cancel()


def _request_once(path: Path) -> None:
    """A health check: send one request as a client."""
    with QmpClient(path, server="xennerd") as client:
        client.execute("query-protocol")


async def _leave(daemons: Sequence[Daemon], domains: Domains) -> None:
    if daemons and domains.is_any_alive():
        _log.warning(
            "guests run on, and the daemons that serve them: the next "
            "xennerd finds them"
        )
        return
    await stop_all(daemons)


@asynccontextmanager
async def _listening(path: Path) -> AsyncIterator[trio.SocketListener]:
    """The control socket, for root and our group. HostError: another process
    listens on it."""
    try:
        listener = listen_at(path, mode=0o600, backlog=_BACKLOG)
    except OSError as error:
        raise HostError(
            f"{path}: {error.strerror or error}", "is an xennerd running?"
        ) from error
    stream = trio.socket.from_stdlib_socket(listener)
    try:
        _let_group_in(path)
        yield trio.SocketListener(stream)
    finally:
        stream.close()
        path.unlink(missing_ok=True)


def _let_group_in(path: Path) -> None:
    """Give the socket to our group; without it, or the right to, to root
    only."""
    try:
        give_to(path, GROUP)
    except (HostError, PermissionError):
        return
    path.chmod(0o660)


if __name__ == "__main__":
    sys.exit(main())
