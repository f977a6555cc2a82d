# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that do something to a guest that runs."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TextIO

from xenner.errors import ConfigError, HostError
from xenner.journal import Subject, log_unit_event, request_line
from xenner.paths import Paths
from xenner.vmcorelocks import DomainAliveError, domid_held
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xlcfg import check_name
from xenner.xlsyntax import quoted
from xennerd.ctl.command import Command, own_name, parser_of
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


def _one(
    name: str, words: Sequence[str], *more: str
) -> tuple[Domain, list[str]]:
    """The domain that the first word names, and the values of `more`."""
    parser = parser_of(name)
    for argument in ("domain", *more):
        parser.add_argument(argument)
    values = list(vars(parser.parse_args(words)).values())
    return find_domain(_paths(), values[0]), values[1:]


def _check_lives(domain: Domain) -> None:
    """One that stays when it is dead has neither monitor nor nodes."""
    if domain.end:
        raise HostError(f"{domain.name} has ended: {domain.end}")


def _execute(domain: Domain, command: str, **arguments: object) -> None:
    _check_lives(domain)
    with QmpClient(_paths().monitor(domain.domid)) as monitor:
        monitor.execute(command, **arguments)


def _write(domain: Domain, node: str, value: str) -> None:
    _check_lives(domain)
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


def _ask_to_end(name: str, request: str, words: Sequence[str]) -> int:
    parser = parser_of(name)
    add = parser.add_argument
    add("-a", "--all", action="store_true")
    add("-w", "--wait", action="count", default=0)
    add("-F", action="store_true", help="no effect: for HVM guests")
    add("domain", nargs="*")
    arguments = parser.parse_args(words)
    paths = _paths()
    if not arguments.all and not arguments.domain:
        raise ConfigError(f"{name}: which domain?")
    chosen = (
        list_domains(paths)
        if arguments.all
        else [find_domain(paths, word) for word in arguments.domain]
    )
    chosen = [domain for domain in chosen if not domain.end]
    with ExitStack() as stack:
        # Before it is asked: what it does then is not to be missed. With -ww
        # only the end of the domain counts, and no restart is one.
        monitors = [
            _open_monitor(domain, stack) if arguments.wait == 1 else None
            for domain in chosen
        ]
        starts_s = [_starts_s(domain) for domain in chosen]
        for domain in chosen:
            _write(domain, "control/shutdown", request)
            _log_request(domain, name)
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
    """A person at a terminal is told in time who is still waited for, and what
    can be done; a guest that cannot power off never ends."""

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


def _shutdown(words: Sequence[str]) -> int:
    return _ask_to_end("shutdown", "poweroff", words)


def _reboot(words: Sequence[str]) -> int:
    return _ask_to_end("reboot", "reboot", words)


def _destroy(words: Sequence[str]) -> int:
    parser = parser_of("destroy")
    parser.add_argument("-f", action="store_true")
    parser.add_argument("domain")
    domain = find_domain(_paths(), parser.parse_args(words).domain)
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
    """One whose process does not answer; on_crash is not followed then."""
    if not domain.pid:
        raise HostError(f"{domain.name}: its process cannot be found")
    try:
        # May we? What is written down is true then.
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
    """One that stays; nothing of it is outside the runtime directory."""
    runtime_dir = _paths().runtime_dir
    try:
        with domid_held(domain.domid, runtime_dir) as vmcore:
            remove_record(runtime_dir, domain.domid)
            vmcore.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{domain.name}: {error.strerror}") from error
    except DomainAliveError as error:
        raise HostError(str(error)) from error


def _pause(words: Sequence[str]) -> int:
    domain, _ = _one("pause", words)
    _execute(domain, "stop")
    return 0


def _unpause(words: Sequence[str]) -> int:
    domain, _ = _one("unpause", words)
    _execute(domain, "cont")
    return 0


def _sysrq(words: Sequence[str]) -> int:
    domain, (letter,) = _one("sysrq", words, "letter")
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


def _mem_set(words: Sequence[str]) -> int:
    domain, (size,) = _one("mem-set", words, "size")
    size_mib = parse_mib(size)
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


def _vcpu_set(words: Sequence[str]) -> int:
    parser = parser_of("vcpu-set")
    parser.add_argument("-i", "--ignore-host", action="store_true")
    parser.add_argument("domain")
    parser.add_argument("number", type=int)
    arguments = parser.parse_args(words)
    domain = find_domain(_paths(), arguments.domain)
    _check_lives(domain)
    most = len(domain.vcpus)
    if not 1 <= arguments.number <= most:
        raise HostError(f"{domain.name}: between 1 and {most} vCPUs")
    for number in range(most):
        is_online = number < arguments.number
        node = f"cpu/{number}/availability"
        _write(domain, node, "online" if is_online else "offline")
    return 0


def _rename(words: Sequence[str]) -> int:
    domain, (name,) = _one("rename", words, "name")
    paths = _paths()
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"rename: {error}") from None
    if find_named(paths, name) is not None:
        raise HostError(f"a domain {name!r} is there already")
    if not domain.end:
        _write(domain, "name", name)
    # What it is started from again says it too.
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


def _dump_core(words: Sequence[str]) -> int:
    domain, (file,) = _one("dump-core", words, "file")
    with _written(Path(file)) as target:
        if domain.end or domain.is_silent:
            # A guest's memory is a core as it is: a dead one's, and that of
            # one whose process does not answer.
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
    """A file for nobody else's eyes; one that was made here does not outlive
    an error. HostError."""
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
        _shutdown,
        "shutdown [-w[w]] [-F] <-a|Domain>",
        "Issue a shutdown signal to a domain",
    ),
    "reboot": Command(
        _reboot,
        "reboot [-w] [-F] <-a|Domain>",
        "Issue a reboot signal to a domain",
    ),
    "destroy": Command(
        _destroy, "destroy [-f] <Domain>", "Terminate a domain immediately"
    ),
    "pause": Command(_pause, "pause <Domain>", "Pause execution of a domain"),
    "unpause": Command(_unpause, "unpause <Domain>", "Unpause a paused domain"),
    "sysrq": Command(
        _sysrq, "sysrq <Domain> <letter>", "Send a sysrq to a domain"
    ),
    "mem-set": Command(
        _mem_set,
        "mem-set <Domain> <MemMB['b'[bytes]|'k'|'m'|'g'|'t']>",
        "Set the current memory usage for a domain",
    ),
    "vcpu-set": Command(
        _vcpu_set,
        "vcpu-set [-i] <Domain> <vCPUs>",
        "Set the number of active VCPUs allowed for the domain",
    ),
    "rename": Command(
        _rename, "rename <Domain> <NewDomainName>", "Rename a domain"
    ),
    "dump-core": Command(
        _dump_core, "dump-core <Domain> <filename>", "Core dump a domain"
    ),
}
