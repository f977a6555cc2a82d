# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the guest's console goes: terminal, pty, socket, file or nowhere.

The ring itself is the only buffer: a slow reader stops the guest's console,
never its vCPUs, and costs no memory.
"""

import logging
import os
import select
import stat
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError
from xenner.listening import listen_at
from xennerd.vm.console.escape import LEAVE
from xennerd.vm.console.lines import ConsoleLines, let_lines_through

_LOGGED = ",log"
_CHUNK_BYTES = 1024
_PTY_PATIENCE_S = 1.0
LAST_WORDS_S = 2.0
"""How long the end of a guest waits for its console's reader."""
_UNREAD_LOOK_S = 0.005
_MOST_REMEMBERED_BYTES = 16 << 10

_log = logging.getLogger("xenner.console")


class LeaveConsole(Exception):  # noqa: N818 - an event, not an error
    """The person at the terminal typed Ctrl-]; `typed` is what came before
    it and is still the guest's."""

    def __init__(self, typed: bytes) -> None:
        super().__init__(typed)
        self.typed = typed


class Sink(Protocol):
    """One end of a console."""

    async def send(self, data: bytes) -> None:
        """Deliver all of it; blocks while the reader does not read."""

    async def receive(self) -> bytes:
        """Typed bytes; b"" when there will never be more."""


class NullSink:
    """Output vanishes, nothing is ever typed."""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""


class FdSink:
    """A pair of descriptors that may be terminals, pipes or files."""

    def __init__(self, out_fd: int, in_fd: int | None, *, leave: bool) -> None:
        self._out_fd = out_fd
        self._in_fd = in_fd
        self._leave = leave
        self._has_failed = False

    async def send(self, data: bytes) -> None:
        while data:
            # Blocking, in a thread: O_NONBLOCK would be set for everybody
            # who shares the terminal. A reader that has stopped must not
            # keep us from ending, so the thread may be left behind.
            try:
                count = await run_abandonable(os.write, self._out_fd, data)
            except OSError as error:
                # The reader is gone or the disk full; the guest runs on.
                if not self._has_failed:
                    _log.warning("console output: %s", error.strerror)
                self._has_failed = True
                return
            data = data[count:]

    async def receive(self) -> bytes:
        if self._in_fd is None:
            return b""
        # A regular file (and /dev/null) is always readable: no epoll for it.
        with suppress(PermissionError):
            await trio.lowlevel.wait_readable(self._in_fd)
        try:
            data = os.read(self._in_fd, _CHUNK_BYTES)
        except OSError:
            return b""  # EIO: the terminal went away
        if self._leave and LEAVE in data:
            raise LeaveConsole(data.partition(LEAVE)[0])
        return data


@dataclass(slots=True)
class Pty:
    """Both ends of a pty: without an open `theirs`, `ours` would hang up."""

    name: str
    ours: int
    theirs: int

    def close(self) -> None:
        """Close both ends; unread output is lost."""
        for fd in (self.theirs, self.ours):
            if fd >= 0:
                os.close(fd)
        self.ours = self.theirs = -1

    def find_unread(self) -> bool:
        """Find out whether a reader has it open and has not read all of it yet.

        Hangs up, by closing `theirs`, if nobody else has it open."""
        if not _has_event(self.theirs, select.POLLIN):
            return False
        # If nobody else has it open, closing our own end hangs it up.
        os.close(self.theirs)
        self.theirs = -1
        if _has_event(self.ours, select.POLLHUP):
            return False
        self.theirs = os.open(self.name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        return True


def _has_event(fd: int, event: int) -> bool:
    poll = select.poll()
    poll.register(fd, event & select.POLLIN)
    return any(found & event for _fd, found in poll.poll(0))


class PtySink:
    """Our side of a pty; when nobody reads, output is thrown away."""

    def __init__(self, pty: Pty) -> None:
        self._pty = pty
        self._fd = pty.ours
        self._is_read = True

    async def wait_read(self) -> None:
        """Wait until the reader has read all output: the terminal is hung up
        after this, which discards the rest (pty(7))."""
        with trio.move_on_after(LAST_WORDS_S):
            # pty(7) has no event for "all is read".
            while self._pty.find_unread():  # noqa: ASYNC110
                await trio.sleep(_UNREAD_LOOK_S)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while data:
            try:
                count = os.write(self._fd, data)
            except BlockingIOError:
                if not self._is_read:
                    return
                with trio.move_on_after(_PTY_PATIENCE_S) as waiting:
                    await trio.lowlevel.wait_writable(self._fd)
                self._is_read = not waiting.cancelled_caught
                continue
            self._is_read = True
            data = data[count:]

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            with suppress(BlockingIOError):
                return os.read(self._fd, _CHUNK_BYTES)


class SocketSink:
    """A listening Unix socket with one client at a time."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._client: trio.SocketStream | None = None

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self._client is None:
            return
        # receive() sees the same end of the connection and lets go of it.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._client.send_all(data)

    async def receive(self) -> bytes:
        while True:
            client = self._client
            if client is None:
                self._client = client = await self._listener.accept()
            data = b""
            with suppress(trio.BrokenResourceError):
                data = bytes(await client.receive_some(_CHUNK_BYTES))
            if data:
                return data
            self._client = None
            await client.aclose()


class RememberingSink:
    """Another sink, and the end of what went there."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._said = bytearray()

    async def send(self, data: bytes) -> None:
        self._said += data
        del self._said[:-_MOST_REMEMBERED_BYTES]
        await self._sink.send(data)

    async def receive(self) -> bytes:
        return await self._sink.receive()

    def take_said(self) -> bytes:
        """Since it was called last."""
        said = bytes(self._said)
        self._said.clear()
        return said


class LoggedSink:
    """Another sink, whose output is told line by line as well."""

    def __init__(self, sink: Sink, lines: ConsoleLines) -> None:
        self._sink = sink
        self._lines = lines

    async def send(self, data: bytes) -> None:
        self._lines.write(data)
        await self._sink.send(data)

    async def receive(self) -> bytes:
        return await self._sink.receive()


@asynccontextmanager
async def open_console(spec: str, *, link: Path) -> AsyncIterator[Sink]:
    """The sink that a -serial argument names; `link` is where a pty shows.

    With `,log` behind it the output is in the log too. Raises ConfigError for
    a specification that makes no sense, HostError for one that cannot be had.
    """
    if spec.endswith(_LOGGED):
        let_lines_through()
        lines = ConsoleLines()
        own = spec.removesuffix(_LOGGED)
        try:
            async with open_console(own, link=link) as sink:
                yield LoggedSink(sink, lines)
        finally:
            lines.close()
        return
    kind, _, rest = spec.partition(":")
    match kind:
        case "null" | "none" | "xenconsoled":
            # With xenconsoled nobody here asks for it.
            yield NullSink()
        case "stdio":
            with _raw_terminal() as is_terminal:
                yield FdSink(1, 0, leave=is_terminal)
        case "file" if rest:
            with _open_file(rest) as fd:
                yield FdSink(fd, None, leave=False)
        case "pty":
            with _open_pty(link) as pty:
                sink = PtySink(pty)
                yield sink
                await sink.wait_read()
        case "unix" if rest:
            async with listen_unix(Path(rest.split(",")[0])) as listener:
                yield SocketSink(listener)
        case _:
            raise ConfigError(
                f"-serial {spec}: not a console; "
                "use stdio, pty, unix:PATH, file:PATH or null"
            )


@contextmanager
def _raw_terminal() -> Iterator[bool]:
    """Keys go to the guest one by one; the terminal is put back afterwards."""
    if not os.isatty(0):
        yield False
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSANOW)
    mode = termios.tcgetattr(0)
    mode[1] |= termios.OPOST  # our own messages keep their line ends
    termios.tcsetattr(0, termios.TCSANOW, mode)
    try:
        yield True
    finally:
        termios.tcsetattr(0, termios.TCSANOW, before)


@contextmanager
def _open_file(path: str) -> Iterator[int]:
    try:
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise HostError(f"console file {path}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _open_pty(link: Path) -> Iterator[Pty]:
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    pty = Pty(name, ours, theirs)
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    try:
        # As with the vmcore, the directory's group serves domains.
        directory = link.parent.stat()
        if directory.st_mode & stat.S_ISGID:
            # A person who runs a guest by hand may be no member.
            with suppress(PermissionError):
                os.fchown(theirs, -1, directory.st_gid)
                os.fchmod(theirs, 0o660)
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        print(f"char device redirected to {name}", file=sys.stderr, flush=True)
        yield pty
    finally:
        link.unlink(missing_ok=True)
        pty.close()


@asynccontextmanager
async def listen_unix(
    path: Path, *, backlog: int = 1
) -> AsyncIterator[trio.SocketListener]:
    """So many clients at a time wait to be accepted. HostError: the path
    cannot be had."""
    try:
        listener = listen_at(path, backlog=backlog)
    except OSError as error:
        # A path that is too long has no errno.
        reason = error.strerror or error
        raise HostError(f"socket {path}: {reason}") from error
    stream = trio.socket.from_stdlib_socket(listener)
    try:
        yield trio.SocketListener(stream)
    finally:
        stream.close()
        path.unlink(missing_ok=True)
