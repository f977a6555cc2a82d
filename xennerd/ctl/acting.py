# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that do something to a guest that runs."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

from xenner.errors import ConfigError, HostError
from xenner.journal import Subject, log_unit_event, request_line
from xenner.paths import Paths
from xenner.vmcorelocks import DomainAliveError, domid_held
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xlcfg import check_name
from xenner.xlsyntax import quoted
from xennerd.ctl.command import DOMAIN, Add, Command, add_domain, own_name
from xennerd.ctl.domains import (
    Domain,
    find_domain,
    find_named,
    list_domains,
)
from xennerd.domain.records import change_record, read_record, remove_record
from xennerd.nodes.guest import domain_path
from xennerd.qmp.client import QmpClient, QmpSilentError
from xennerd.vm.monitor.dump import Dump, copy_core

# From one look whether it is the next guest's process to the next.
_LOOK_S = 0.2
_PATIENCE_S = 30.0
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def _paths() -> Paths:
    return Paths.of(os.environ)


def _named(arguments: Namespace) -> Domain:
    return find_domain(_paths(), arguments.domain)


def _check_alive(domain: Domain) -> None:
    """HostError: the domain is preserved, without monitor and nodes."""
    if domain.end:
        raise HostError(f"{domain.name} has ended: {domain.end}")


def _execute(domain: Domain, command: str, **arguments: object) -> None:
    _check_alive(domain)
    with QmpClient(_paths().monitor(domain.domid)) as monitor:
        monitor.execute(command, **arguments)


def _write(domain: Domain, node: str, value: str) -> None:
    _check_alive(domain)
    try:
        with Xenstore(_paths().xenstore) as store:
            store.write(f"{domain_path(domain.domid)}/{node}", value)
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error


def _log_request(domain: Domain, what: str) -> None:
    """Log as an event of the domain's unit, if it has one, who requested what.
    Only root can do that; for other users xennerd does, if it runs."""
    record = read_record(_paths().runtime_dir, domain.domid)
    if record is None or not record.unit:
        return
    if os.geteuid():
        with (
            suppress(HostError),
            QmpClient(_paths().xennerd) as daemon,
        ):
            daemon.execute("domain-asked", domid=domain.domid, what=what)
        return
    line = request_line(what, os.environ.get("SUDO_USER") or "root")
    log_unit_event(
        record.unit,
        line.event,
        line.text,
        Subject(record.domid, record.name, record.handle),
    )


def _wait_gone(domain: Domain, limit_s: float | None = None) -> bool:
    """Until the domain's process is gone; False: it still is there."""
    if not domain.pid:
        return True
    try:
        fd = os.pidfd_open(domain.pid)
    except ProcessLookupError:
        return True
    try:
        # pidfd_open(2): it becomes readable when the process ends.
        return bool(select.select([fd], [], [], limit_s)[0])
    finally:
        os.close(fd)


def _wait_end(
    domain: Domain, monitor: QmpClient | None, starts_s: tuple[float, ...]
) -> None:
    """Until the guest has ended, however long that takes: with its process,
    or by a restart in it. `starts_s` are those before."""
    if monitor is None:
        _wait_gone(domain)
        return
    while (reset := monitor.wait_event("RESET")) is not None:
        if reset.get("guest"):
            return
    # Its process goes in a moment, or is the next one's by then.
    while not _wait_gone(domain, _LOOK_S):
        if _starts_s(domain) not in ((), starts_s):
            return


def _starts_s(domain: Domain) -> tuple[float, ...]:
    record = read_record(_paths().runtime_dir, domain.domid)
    return record.starts_s if record else ()


def _open_monitor(domain: Domain, stack: ExitStack) -> QmpClient | None:
    if domain.is_silent:
        return None
    with suppress(HostError):
        path = _paths().monitor(domain.domid)
        return stack.enter_context(QmpClient(path))
    return None


def _declare_end(add: Add) -> None:
    add("-a", "--all", action="store_true", help="every guest")
    add(
        *("-w", "--wait"),
        action="count",
        default=0,
        help="until it has ended; twice: until its last restart has",
    )
    add("-F", action="store_true", help="no effect: for HVM guests")
    add(DOMAIN, nargs="*", metavar="Domain")


def _ask_to_end(arguments: Namespace, what: str, request: str) -> int:
    paths = _paths()
    if not arguments.all and not arguments.domain:
        raise ConfigError(f"{what}: which domain?")
    chosen = (
        list_domains(paths)
        if arguments.all
        else [find_domain(paths, word) for word in arguments.domain]
    )
    chosen = [domain for domain in chosen if not domain.end]
    with ExitStack() as stack:
        # Connect before the request, to miss no event. With -ww only the end
        # of the domain counts, not a restart.
        monitors = [
            _open_monitor(domain, stack) if arguments.wait == 1 else None
            for domain in chosen
        ]
        starts_s = [_starts_s(domain) for domain in chosen]
        for domain in chosen:
            _write(domain, "control/shutdown", request)
            _log_request(domain, what)
        if arguments.wait:
            left = [domain.name for domain in chosen]
            with patience(left, sys.stderr):
                for one in zip(chosen, monitors, starts_s, strict=True):
                    _wait_end(*one)
                    left.remove(one[0].name)
    return 0


@contextmanager
def patience(
    left: Sequence[str], stream: TextIO, *, after_s: float = _PATIENCE_S
) -> Iterator[None]:
    """Print after a while which domains are still running, and how to end
    them: a guest that cannot power off never ends."""

    def tell() -> None:
        for name in tuple(left):
            print(
                f"still waiting for {name} to shut down; it ends at once with "
                f"{own_name()} destroy {shlex.quote(name)}",
                file=stream,
                flush=True,
            )

    timer = threading.Timer(after_s, tell)
    if stream.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _declare_destroy(add: Add) -> None:
    add("-f", action="store_true", help="no effect")
    add_domain(add)


def _destroy(arguments: Namespace) -> int:
    domain = _named(arguments)
    if domain.end:
        _remove_dead(domain)
        return 0
    _log_request(domain, "destroy")
    try:
        if domain.is_silent:
            _kill(domain)
        else:
            _execute(domain, "quit")
    except QmpSilentError:
        _kill(domain)
    _wait_gone(domain)
    return 0


def _kill(domain: Domain) -> None:
    """Kill a process that does not answer; on_crash does not apply."""
    if not domain.pid:
        raise HostError(f"{domain.name}: its process cannot be found")
    try:
        # Check the permission before writing the record.
        os.kill(domain.pid, 0)
        with suppress(HostError):
            change_record(
                _paths().runtime_dir,
                domain.domid,
                lambda record: replace(record, is_unwanted=True),
            )
        os.kill(domain.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:
        raise HostError(
            f"{domain.name}: its process, {domain.pid}, does not answer",
            "root can destroy it",
        ) from None


def _remove_dead(domain: Domain) -> None:
    """Remove a preserved domain: all of it is in the runtime directory."""
    runtime_dir = _paths().runtime_dir
    try:
        with domid_held(domain.domid, runtime_dir) as vmcore:
            remove_record(runtime_dir, domain.domid)
            vmcore.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{domain.name}: {error.strerror}") from error
    except DomainAliveError as error:
        raise HostError(str(error)) from error


def _pause(arguments: Namespace) -> int:
    _execute(_named(arguments), "stop")
    return 0


def _unpause(arguments: Namespace) -> int:
    _execute(_named(arguments), "cont")
    return 0


def _declare_sysrq(add: Add) -> None:
    add_domain(add)
    add("letter")


def _sysrq(arguments: Namespace) -> int:
    domain, letter = _named(arguments), arguments.letter
    if len(letter) != 1:
        raise ConfigError(f"sysrq {letter!r}: one letter")
    _write(domain, "control/sysrq", letter)
    return 0


def parse_mib(text: str) -> int:
    """`512`, `512m`, `2g`, `1048576k`: MiB as xl's mem-set takes them."""
    number, unit = text, "m"
    if text[-1:].lower() in tuple("bkmgt"):
        number, unit = text[:-1], text[-1].lower()
    if not (number.isascii() and number.isdigit()):
        raise ConfigError(f"{text!r}: not an amount of memory")
    shift = {"b": -20, "k": -10, "m": 0, "g": 10, "t": 20}[unit]
    size = int(number)
    return size << shift if shift >= 0 else size >> -shift


def declare_size(add: Add) -> None:
    """A domain, and an amount of memory that parse_mib() takes."""
    add_domain(add)
    add("size", metavar="MemMB", help="or with b, k, m, g or t behind it")


def _mem_set(arguments: Namespace) -> int:
    domain, size_mib = _named(arguments), parse_mib(arguments.size)
    most_mib = domain.max_memory_mib
    with (
        suppress(OSError, XenstoreError),
        Xenstore(_paths().xenstore) as store,
    ):
        # mem-max may have set less.
        node = f"{domain_path(domain.domid)}/memory/static-max"
        most_mib = min(most_mib, int(store.read(node)) >> 10)
    if not 0 < size_mib <= most_mib:
        raise HostError(f"{domain.name}: between 1 and {most_mib} MiB")
    _write(domain, "memory/target", str(size_mib << 10))
    return 0


def _declare_vcpu_set(add: Add) -> None:
    add("-i", "--ignore-host", action="store_true", help="no effect")
    add_domain(add)
    add("number", type=int, metavar="vCPUs")


def _vcpu_set(arguments: Namespace) -> int:
    domain = _named(arguments)
    _check_alive(domain)
    most = len(domain.vcpus)
    if not 1 <= arguments.number <= most:
        raise HostError(f"{domain.name}: between 1 and {most} vCPUs")
    for number in range(most):
        is_online = number < arguments.number
        node = f"cpu/{number}/availability"
        _write(domain, node, "online" if is_online else "offline")
    return 0


def _declare_rename(add: Add) -> None:
    add_domain(add)
    add("name", metavar="NewDomainName")


def _rename(arguments: Namespace) -> int:
    domain, name = _named(arguments), arguments.name
    paths = _paths()
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"rename: {error}") from None
    if find_named(paths, name) is not None:
        raise HostError(f"a domain {name!r} is there already")
    if not domain.end:
        _write(domain, "name", name)
    # A restart uses the record.
    try:
        change_record(
            paths.runtime_dir,
            domain.domid,
            lambda record: replace(
                record,
                name=name,
                settings=f"{record.settings}\nname={quoted(name)}".lstrip(),
            ),
        )
    except HostError:
        if not domain.end:
            _write(domain, "name", domain.name)
        raise
    return 0


def _declare_dump_core(add: Add) -> None:
    add_domain(add)
    add("file", type=Path, metavar="filename")


def _dump_core(arguments: Namespace) -> int:
    domain = _named(arguments)
    with _written(arguments.file) as target:
        if domain.end or domain.is_silent:
            # The vmcore is a core file as it is, and no process has to be
            # asked.
            vmcore = _paths().vmcore(domain.domid)
            copy_core(
                os.open(vmcore, os.O_RDONLY), os.dup(target.fileno()), Dump()
            )
            return 0
        # The guest's process has a view of the file system of its own, and
        # is another user: it gets the file that is open.
        path = _paths().monitor(domain.domid)
        with QmpClient(path, limit_s=None) as monitor:
            monitor.give(target.fileno(), "core")
            monitor.execute(
                "dump-guest-memory", paging=False, protocol="fd:core"
            )
    return 0


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Create a private file; after an error it is removed again if it is new.
    HostError."""
    is_new = not path.exists()
    try:
        fd = os.open(path, _NEW, 0o600)
        with os.fdopen(fd, "wb") as file:
            yield file
    except (OSError, HostError) as error:
        if is_new:
            path.unlink(missing_ok=True)
        if isinstance(error, HostError):
            raise
        raise HostError(f"{path}: {error.strerror}") from error


COMMANDS = {
    "shutdown": Command(
        partial(_ask_to_end, what="shutdown", request="poweroff"),
        _declare_end,
        "Issue a shutdown signal to a domain",
    ),
    "reboot": Command(
        partial(_ask_to_end, what="reboot", request="reboot"),
        _declare_end,
        "Issue a reboot signal to a domain",
    ),
    "destroy": Command(
        _destroy, _declare_destroy, "Terminate a domain immediately"
    ),
    "pause": Command(_pause, add_domain, "Pause execution of a domain"),
    "unpause": Command(_unpause, add_domain, "Unpause a paused domain"),
    "sysrq": Command(_sysrq, _declare_sysrq, "Send a sysrq to a domain"),
    "mem-set": Command(
        _mem_set,
        declare_size,
        "Set the current memory usage for a domain",
    ),
    "vcpu-set": Command(
        _vcpu_set,
        _declare_vcpu_set,
        "Set the number of active VCPUs allowed for the domain",
    ),
    "rename": Command(_rename, _declare_rename, "Rename a domain"),
    "dump-core": Command(_dump_core, _declare_dump_core, "Core dump a domain"),
}
