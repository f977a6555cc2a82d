# SPDX-License-Identifier: GPL-2.0-or-later
"""console: the caller's terminal is the guest's."""

from __future__ import annotations

import os
import select
import termios
import tty
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack, suppress

from xenner.errors import ConfigError, HostError
from xenner.paths import Paths
from xennerd.ctl.command import Add, Command, add_domain
from xennerd.ctl.domains import Domain, find_domain
from xennerd.domain.records import read_record
from xennerd.vm.console.escape import LEAVE


def _declare(add: Add) -> None:
    add(
        "-t",
        dest="kind",
        choices=["pv"],
        default="pv",
        help="the kind of console",
    )
    add(
        "-n",
        dest="number",
        type=int,
        default=0,
        metavar="0",
        help="its number; there is one",
    )
    add("-e", dest="leave", default="^]", metavar="escape", help="to leave it")
    add_domain(add)


def _console(arguments: Namespace) -> int:
    paths = Paths.of(os.environ)
    leave = _key(arguments.leave)
    attach(paths, find_domain(paths, arguments.domain), leave=leave)
    return 0


def _key(text: str) -> bytes:
    """`^]` or one character. ConfigError."""
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) & 0x1F])
    if len(text) != 1 or not text.isascii():
        raise ConfigError(f"-e {text!r}: as ^] or one character")
    return text.encode()


def attach(
    paths: Paths,
    domain: Domain,
    when_open: Callable[[], object] = lambda: None,
    *,
    leave: bytes = LEAVE,
) -> None:
    """The caller's terminal is the guest's until `leave` or its end. Of a dead
    one there is only what it wrote last. HostError."""
    if domain.end:
        record = read_record(paths.runtime_dir, domain.domid)
        os.write(1, record.last_words.encode("latin-1") if record else b"")
        return
    path = paths.console(domain.domid)
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise HostError(f"console {path}: {error.strerror}") from error
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        try:
            tty.setraw(fd)
        except termios.error as error:
            # No OSError: it has ended in this moment.
            raise HostError(f"console {path}: {error.args[-1]}") from error
        when_open()
        if os.isatty(0):
            before = termios.tcgetattr(0)
            stack.callback(termios.tcsetattr, 0, termios.TCSANOW, before)
            tty.setraw(0)
        pump(fd, leave)


def pump(fd: int, leave: bytes) -> None:
    """Between standard input and output and a terminal, until `leave` or its
    end."""
    sources = [0, fd]
    while True:
        found, _, _ = select.select(sources, [], [])
        if fd in found:
            data = b""
            # A terminal whose master is gone says EIO.
            with suppress(OSError):
                data = os.read(fd, 4096)
            if not data:
                return
            os.write(1, data)
        if 0 in found:
            data = os.read(0, 4096)
            if leave in data:
                os.write(fd, data.partition(leave)[0])
                return
            if not data:
                sources = [fd]
                continue
            os.write(fd, data)


COMMANDS = {
    "console": Command(
        _console,
        _declare,
        "Attach to domain's console",
    ),
}
