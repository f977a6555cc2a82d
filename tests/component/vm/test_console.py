# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's sinks and pump on real files, ptys, sockets and pipes."""

import os
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from xenner.errors import ConfigError, HostError
from xennerd.vm.console.console import (
    LAST_WORDS_S,
    FdSink,
    LeaveConsole,
    NullSink,
    RememberingSink,
    open_console,
)
from xennerd.vm.console.pump import ConsolePump
from xennerd.vm.console.ring import IN_BYTES, OUT_BYTES, ConsoleRing

IN_CONS, IN_PROD, OUT_CONS, OUT_PROD = 3072, 3076, 3080, 3084


class Guest:
    """A guest's side of a console, and the host's ring on it."""

    def __init__(self) -> None:
        self.page = bytearray(4096)
        self.ring = ConsoleRing(memoryview(self.page), 0)
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.nr_events = 0
        self.nr_rings = 0
        self.doorbell_bytes = 0

    def _get(self, at: int) -> int:
        value: int = struct.unpack_from("<I", self.page, at)[0]
        return value

    def event(self) -> None:
        self.nr_events += 1

    def set_doorbell(self, waiting_bytes: int) -> None:
        self.doorbell_bytes = waiting_bytes

    def tell_host(self) -> None:
        """As emu does: not of little that waits while the host looks."""
        if OUT_BYTES - self.room() >= self.doorbell_bytes:
            self.nr_rings += 1
            os.eventfd_write(self.wake_fd, 1)

    def room(self) -> int:
        return OUT_BYTES - (self._get(OUT_PROD) - self._get(OUT_CONS))

    # The host writes its index and says nothing: there is no event to wait for.
    async def wait_full(self) -> None:
        while self.room():  # noqa: ASYNC110
            await trio.sleep(0.001)

    async def wait_drained(self) -> None:
        while self.room() < OUT_BYTES:  # noqa: ASYNC110
            await trio.sleep(0.001)

    def print(self, data: bytes) -> None:
        """As hvc_xen does: fill the ring, tell the host."""
        assert len(data) <= self.room()
        prod = self._get(OUT_PROD)
        for i, byte in enumerate(data):
            self.page[1024 + (prod + i) % OUT_BYTES] = byte
        struct.pack_into("<I", self.page, OUT_PROD, prod + len(data))
        self.tell_host()

    async def print_all(self, data: bytes) -> None:
        """Wait for room as often as it takes."""
        while data:
            piece, data = data[: self.room()], data[self.room() :]
            if piece:
                self.print(piece)
            await trio.sleep(0.001)

    def read(self) -> bytes:
        cons, prod = self._get(IN_CONS), self._get(IN_PROD)
        data = bytes(self.page[i % IN_BYTES] for i in range(cons, prod))
        struct.pack_into("<I", self.page, IN_CONS, prod)
        if data:
            self.tell_host()
        return data

    async def read_all(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            data += self.read()
            await trio.sleep(0.001)
        return data


class Readers(NullSink):
    """What arrives, in its pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self.pieces.append(data)
        await trio.lowlevel.checkpoint()


class Typed(Readers):
    """What arrives, while this was typed."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        data, self._data = self._data, b""
        return data


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.ring.release()
    os.close(guest.wake_fd)


def pump_for(guest: Guest, sink: object) -> ConsolePump:
    return ConsolePump(
        guest.ring,
        sink,  # type: ignore[arg-type]
        wake_fd=guest.wake_fd,
        notify=guest.event,
        set_doorbell=guest.set_doorbell,
    )


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):  # the test may have closed it
            os.close(fd)


async def test_what_the_guest_prints_stands_in_the_file(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"earlier\n")
    data = bytes(range(256)) * 40
    with trio.fail_after(10):
        async with (
            open_console(f"file:{path}", link=tmp_path / "link") as sink,
            trio.open_nursery() as nursery,
        ):
            pump = pump_for(guest, sink)
            nursery.start_soon(pump.serve_output)
            await guest.print_all(data)
            await pump.flush()
            nursery.cancel_scope.cancel()
    assert path.read_bytes() == b"earlier\n" + data
    # The guest was told of the room it got.
    assert guest.nr_events > 0


async def test_the_end_is_remembered() -> None:
    readers = Readers()
    sink = RememberingSink(readers)
    for number in range(5000):
        await sink.send(b"%d\n" % number)
    said = sink.take_said()
    assert said.endswith(b"4998\n4999\n")
    assert len(said) == 16 << 10
    assert sink.take_said() == b""
    assert b"".join(readers.pieces).startswith(b"0\n1\n2\n")


async def test_a_file_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        async with open_console(
            f"file:{tmp_path}/no/such", link=tmp_path / "link"
        ):
            pass


@pytest.mark.parametrize("spec", ["tcp:1", "file:", "unix:", "", "stdiox"])
async def test_a_console_that_makes_no_sense(spec: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use stdio, pty"):
        async with open_console(spec, link=tmp_path / "link"):
            pass


async def test_a_stopped_reader_stops_the_ring_and_nothing_else(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    data = os.urandom(100_000)  # more than a pipe and the ring hold
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            pump = pump_for(guest, FdSink(writer, None, leave=False))
            nursery.start_soon(pump.serve_output)
            nursery.start_soon(guest.print_all, data)
            await guest.wait_full()
            got = b""
            while len(got) < len(data):
                got += await trio.to_thread.run_sync(os.read, reader, 4096)
            nursery.cancel_scope.cancel()
    assert got == data


async def test_a_stopped_reader_does_not_keep_us_from_ending(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    pump = pump_for(guest, FdSink(writer, None, leave=False))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.serve_output)
            guest.print(b"x")
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    os.read(reader, 1 << 20)  # let the thread that writes go


async def test_last_words_follow_what_is_being_written(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    data = os.urandom(OUT_BYTES)
    pump = pump_for(guest, FdSink(writer, None, leave=False))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.serve_output)
            guest.print(data[:100])
            await trio.lowlevel.checkpoint()
            guest.print(data[100:])
            await pump.flush()
            nursery.cancel_scope.cancel()
    assert os.read(reader, 1 << 16) == data


async def test_a_reader_that_is_gone_costs_only_its_output(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    os.close(reader)
    pump = pump_for(guest, FdSink(writer, None, leave=False))
    with trio.fail_after(10):
        guest.print(b"into the void")
        await pump.flush()
    assert guest.room() == OUT_BYTES


async def test_typing_more_than_the_ring_holds(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    data = os.urandom(5 * IN_BYTES)
    pump = pump_for(guest, FdSink(writer, reader, leave=False))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.serve_output)
            nursery.start_soon(pump.serve_input)
            os.write(writer, data)
            assert await guest.read_all(len(data)) == data
            nursery.cancel_scope.cancel()


async def test_no_events_while_a_guest_does_not_read(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    pump = pump_for(guest, FdSink(writer, reader, leave=False))
    with trio.move_on_after(0.2):
        os.write(writer, bytes(3 * IN_BYTES))
        await pump.serve_input()
    assert guest.nr_events == 1


async def test_end_of_input_only_ends_input(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    os.write(writer, b"last")
    os.close(writer)
    pump = pump_for(guest, FdSink(1, reader, leave=False))
    with trio.fail_after(10):
        await pump.serve_input()
    assert guest.read() == b"last"


async def test_the_leave_key_counts_only_on_a_terminal(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    os.write(writer, b"a\x1db")
    assert await FdSink(1, reader, leave=False).receive() == b"a\x1db"
    os.write(writer, b"a\x1db")
    with pytest.raises(LeaveConsole):
        await FdSink(1, reader, leave=True).receive()


async def test_what_is_typed_before_the_leave_key_is_the_guest_s(
    guest: Guest, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    pump = pump_for(guest, FdSink(1, reader, leave=True))
    os.write(writer, b"sync\n\x1drest")
    with pytest.raises(LeaveConsole):
        await pump.serve_input()
    assert guest.read() == b"sync\n"
    # One that does not read keeps nobody.
    guest.ring.put_input(bytes(IN_BYTES))
    os.write(writer, b"x\x1d")
    with pytest.raises(LeaveConsole):
        await pump.serve_input()


async def test_short_lines_are_taken_together(
    guest: Guest, mock_clock: trio.testing.MockClock
) -> None:
    """And the guest, which has room all the time, is not interrupted and
    need not ring."""
    readers = Readers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump_for(guest, readers).serve_output)
        guest.print(b"first\n")
        await trio.testing.wait_all_tasks_blocked()
        # At once: somebody may be typing.
        assert readers.pieces == [b"first\n"]
        for number in range(100):
            guest.print(b"%d\n" % number)
            await trio.testing.wait_all_tasks_blocked()
        assert len(readers.pieces) == 1
        assert guest.nr_rings == 1
        mock_clock.jump(0.004)
        await trio.testing.wait_all_tasks_blocked()
        assert len(readers.pieces) == 2
        assert readers.pieces[1].count(b"\n") == 100
        assert guest.nr_events == 0
        # Nothing has come: from now on it rings again.
        mock_clock.jump(0.004)
        await trio.testing.wait_all_tasks_blocked()
        guest.print(b"again\n")
        await trio.testing.wait_all_tasks_blocked()
        assert readers.pieces[-1] == b"again\n"
        assert guest.nr_rings == 2
        nursery.cancel_scope.cancel()


async def test_a_ring_that_fills_is_not_left_alone(
    guest: Guest, mock_clock: trio.testing.MockClock
) -> None:
    """The clock stands still: only the bell can wake the host."""
    readers = Readers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump_for(guest, readers).serve_output)
        guest.print(b"first\n")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            guest.print(bytes(OUT_BYTES // 2 - 1))
            await trio.testing.wait_all_tasks_blocked()
            assert guest.room() == OUT_BYTES // 2 + 1
            guest.print(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert guest.room() == OUT_BYTES
        # A guest whose ring got full may wait for room.
        assert guest.nr_events == 3
        assert guest.nr_rings == 4
        nursery.cancel_scope.cancel()


async def test_what_is_written_as_the_host_looks_away(
    guest: Guest, mock_clock: trio.testing.MockClock
) -> None:
    """After the look that found nothing, before the guest rings again."""
    readers = Readers()

    def set_doorbell(waiting_bytes: int) -> None:
        if waiting_bytes == 0 and not guest.room() < OUT_BYTES:
            guest.print(b"unheard\n" * (len(readers.pieces) < 3))
        guest.set_doorbell(waiting_bytes)

    pump = ConsolePump(
        guest.ring,
        readers,
        wake_fd=guest.wake_fd,
        notify=guest.event,
        set_doorbell=set_doorbell,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.serve_output)
        guest.print(b"first\n")
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.004)
        await trio.testing.wait_all_tasks_blocked()
        assert readers.pieces == [b"first\n", b"unheard\n", b"unheard\n"]
        nursery.cancel_scope.cancel()


async def test_a_guest_that_reads_while_it_writes_can_be_typed_to(
    guest: Guest, mock_clock: trio.testing.MockClock
) -> None:
    """What it has read is not rung for while the host looks."""
    pump = pump_for(guest, Typed(b"t" * (IN_BYTES + 10)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.serve_output)
        nursery.start_soon(pump.serve_input)
        guest.print(b"first\n")
        await trio.testing.wait_all_tasks_blocked()
        assert guest.read() == b"t" * IN_BYTES
        assert guest.nr_rings == 1
        guest.print(b"second\n")
        mock_clock.jump(0.004)
        await trio.testing.wait_all_tasks_blocked()
        assert guest.read() == b"t" * 10
        nursery.cancel_scope.cancel()


async def test_pty(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "console.1"
    with trio.fail_after(10):
        async with open_console("pty", link=link) as sink:
            name = os.readlink(link)
            said = capsys.readouterr().err
            assert said == f"char device redirected to {name}\n"
            terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
            try:
                pump = pump_for(guest, sink)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump.serve_output)
                    nursery.start_soon(pump.serve_input)
                    data = bytes(range(32, 127)) * 200
                    nursery.start_soon(guest.print_all, data)
                    got = b""
                    while len(got) < len(data):
                        got += await trio.to_thread.run_sync(
                            os.read, terminal, 4096
                        )
                    assert got == data
                    os.write(terminal, b"typed\x03")
                    assert await guest.read_all(6) == b"typed\x03"
                    nursery.cancel_scope.cancel()
            finally:
                os.close(terminal)
    assert not link.is_symlink()


async def _read_to_the_end(terminal: int, found: list[bytes]) -> None:
    # Who closes the other end at once does so before this.
    await trio.lowlevel.checkpoint()
    data = b"more"
    while data:
        # Hung up it says EIO, or that there is no more.
        data = b""
        with suppress(OSError):
            data = await trio.to_thread.run_sync(os.read, terminal, 1000)
        found.append(data)


async def test_last_words_on_a_pty(guest: Guest, tmp_path: Path) -> None:
    """Who has it open reads all that a guest has said that ends at once."""
    said = bytes(range(32, 127)) * 100
    found: list[bytes] = []
    with trio.fail_after(20):
        async with (
            trio.open_nursery() as nursery,
            open_console("pty", link=tmp_path / "link") as sink,
        ):
            terminal = os.open(tmp_path / "link", os.O_RDWR | os.O_NOCTTY)
            nursery.start_soon(_read_to_the_end, terminal, found)
            await sink.send(said)
    os.close(terminal)
    assert b"".join(found) == said


async def test_nobody_waits_for_those_who_do_not_read_a_pty(
    guest: Guest, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    # A clock that stands still: who waits, waits for ever.
    async with open_console("pty", link=tmp_path / "link") as sink:
        await sink.send(b"nobody has it open")
    mock_clock.autojump_threshold = 0.01
    began = trio.current_time()
    async with open_console("pty", link=tmp_path / "link") as sink:
        terminal = os.open(tmp_path / "link", os.O_RDWR | os.O_NOCTTY)
        await sink.send(b"a stopped one")
    os.close(terminal)
    assert trio.current_time() - began == pytest.approx(LAST_WORDS_S, rel=0.1)


async def test_a_pty_is_the_group_s_that_serves_domains(
    tmp_path: Path,
) -> None:
    link = tmp_path / "console.1"
    for mode, has_it in ((0o2775, True), (0o755, False)):
        tmp_path.chmod(mode)
        async with open_console("pty", link=link):
            status = link.stat()
            assert (status.st_mode & 0o777 == 0o660) == has_it
            if has_it:
                assert status.st_gid == tmp_path.stat().st_gid


async def test_a_pty_that_nobody_reads_holds_nobody_up(
    guest: Guest, tmp_path: Path
) -> None:
    with trio.fail_after(20):
        async with (
            open_console("pty", link=tmp_path / "link") as sink,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(pump_for(guest, sink).serve_output)
            await guest.print_all(bytes(100_000))
            nursery.cancel_scope.cancel()


async def connect(path: Path) -> trio.SocketStream:
    return await trio.open_unix_socket(str(path))


async def test_a_socket_has_one_client_after_the_other(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    with trio.fail_after(10):
        async with (
            open_console(
                f"unix:{path},server,nowait", link=tmp_path / "link"
            ) as sink,
            trio.open_nursery() as nursery,
        ):
            pump = pump_for(guest, sink)
            nursery.start_soon(pump.serve_output)
            nursery.start_soon(pump.serve_input)
            guest.print(b"nobody hears this")
            await guest.wait_drained()
            for word in (b"one", b"two"):
                client = await connect(path)
                await client.send_all(word)
                assert await guest.read_all(3) == word
                guest.print(word)
                got = b""
                while len(got) < 3:
                    got += bytes(await client.receive_some(10))
                assert got == word
                await client.aclose()
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_client_that_dies_while_it_is_written_to(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    with trio.fail_after(10):
        async with (
            open_console(f"unix:{path}", link=tmp_path / "link") as sink,
            trio.open_nursery() as nursery,
        ):
            pump = pump_for(guest, sink)
            nursery.start_soon(pump.serve_output)
            nursery.start_soon(pump.serve_input)
            client = await connect(path)
            await client.send_all(b"!")
            assert await guest.read_all(1) == b"!"
            nursery.start_soon(guest.print_all, bytes(1_000_000))
            await guest.wait_full()
            await client.aclose()
            second = await connect(path)
            assert await second.receive_some(10)
            await second.aclose()
            nursery.cancel_scope.cancel()


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(HostError, match="in use"):
            async with open_console(f"unix:{path}", link=tmp_path / "link"):
                pass
    assert path.exists()
    async with open_console(f"unix:{path}", link=tmp_path / "link"):
        pass


async def test_a_socket_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(HostError, match="too long"):
        async with open_console(f"unix:{path}", link=tmp_path / "link"):
            pass


async def test_hostile_indices_are_told_of_once(
    guest: Guest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_console("null", link=tmp_path / "link") as sink:
        pump = pump_for(guest, sink)
        for prod in (5000, 1 << 31, 77_777):
            struct.pack_into("<I", guest.page, OUT_PROD, prod)
            await pump.flush()
    assert [r.getMessage() for r in caplog.records] == [
        "the guest wrote impossible console ring indices"
    ]


def test_raw_terminals_are_put_back(tmp_path: Path) -> None:
    """A process of its own, whose standard input is a terminal."""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    program = (
        "import trio\n"
        "from pathlib import Path\n"
        "from xennerd.vm.console.console import open_console\n"
        "async def main():\n"
        "    async with open_console('stdio', link=Path('x')) as sink:\n"
        "        print('raw', flush=True)\n"
        "        await sink.receive()\n"
        "trio.run(main)\n"
    )

    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"raw\n"
        mode = termios.tcgetattr(theirs)
        assert not mode[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        os.write(ours, b"\x1d")
        _, err = process.communicate(timeout=10)
        assert process.returncode == 1
        assert b"LeaveConsole" in err
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
