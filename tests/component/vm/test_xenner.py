# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole process with a guest of one page: lives, deaths, refusals."""

import asyncio
import json
import os
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError, QMPClient

from tests.component.vm.rig import Rig
from tests.environments.programs import tiny_symbols
from tests.environments.rules import limit_s
from xenner import abi

# Offset of rip in the first NT_PRSTATUS: note header and name, then
# struct elf_prstatus up to pr_reg, then the registers before it.
_RIP_AT = abi.VMCORE_NOTES_GPA + 12 + 8 + 112 + 16 * 8


def read_until(fd: int, wanted: bytes, timeout_s: float = 15) -> bytes:
    """What comes until `wanted` is in it."""
    got, end = b"", time.monotonic() + limit_s(timeout_s)
    while wanted not in got:
        ready, _, _ = select.select([fd], [], [], end - time.monotonic())
        assert ready, f"no {wanted!r} in {got!r}"
        data = os.read(fd, 4096)
        assert data, f"end of output after {got!r}"
        got += data
    return got


def end(process: subprocess.Popen[bytes], number: int) -> tuple[int, bytes]:
    """Send a signal; exit status and standard error."""
    process.send_signal(number)
    _, err = process.communicate(timeout=limit_s(15))
    return process.returncode, err


def started(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    read_until(process.stdout.fileno(), b"hello\n")


def until(true: Callable[[], bool], timeout_s: float = 15) -> None:
    end_s = time.monotonic() + limit_s(timeout_s)
    while not true():
        assert time.monotonic() < end_s, "it did not become true"
        time.sleep(0.01)


# --- how guests end ----------------------------------------------------------


def test_poweroff(rig: Rig) -> None:
    done = rig.run("p")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_reboot_is_an_end_when_told_so(rig: Rig) -> None:
    done = rig.run("r", "-no-reboot")
    assert (done.returncode, done.stdout) == (0, b"hello\n")


def test_reboot_starts_anew(rig: Rig) -> None:
    process = rig.start("r")
    assert process.stdout is not None
    read_until(process.stdout.fileno(), b"hello\nhello\nhello\n")
    assert end(process, signal.SIGTERM) == (0, b"")


def test_crash_is_described(rig: Rig) -> None:
    done = rig.run("c")
    assert done.returncode == 1
    assert done.stdout == b"hello\n"
    said = done.stderr.decode()
    assert "domain 1 crashed" in said
    assert "RIP:    e033:[<ffffffff8000" in said
    assert "Guest stack trace from rsp:" in said
    assert "sched_op(0x2" in said


def test_a_trap_without_handler_is_a_crash(rig: Rig) -> None:
    done = rig.run("u")
    assert done.returncode == 1
    symbol = tiny_symbols()["invalid"]
    assert f"RIP:    e033:[<{symbol:016x}>]" in done.stderr.decode()


@pytest.mark.parametrize("letter", ["i", "s"])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
)
def test_a_signal_ends_the_guest(
    rig: Rig, letter: str, number: signal.Signals
) -> None:
    process = rig.start(letter)
    started(process)
    assert end(process, number) == (0, b"")


def test_a_second_signal_needs_nobodys_cooperation(rig: Rig) -> None:
    process = rig.start("s")
    started(process)
    # Its main thread cannot look at the first one before the second comes.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=limit_s(15))
    assert process.returncode in (0, -signal.SIGTERM)
    # What it may have left is removed by the next start.
    assert rig.run("p", "-domid", "1").returncode == 0


def test_killed_leaves_what_the_next_start_cleans_up(rig: Rig) -> None:
    process = rig.start("s", "-domid", "9", "-serial", "stdio")
    started(process)
    status, _ = end(process, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert rig.left() == ["vmcore.9"]
    assert rig.run("p", "-domid", "9").returncode == 0


def test_reboots_leave_no_descriptors_and_no_memory_behind(rig: Rig) -> None:
    process = rig.start("r")
    assert process.stdout is not None

    def held() -> tuple[int, int]:
        """Open descriptors and mappings, at the start of a guest's life."""
        assert process.stdout is not None
        read_until(process.stdout.fileno(), b"hello\n" * 5)
        proc = Path(f"/proc/{process.pid}")
        nr_fds = len(list((proc / "fd").iterdir()))
        return nr_fds, len((proc / "maps").read_text().splitlines())

    nr_fds, nr_maps = held()
    for _ in range(3):
        last_nr_fds, last_nr_maps = held()
    # Between two starts there are fewer; there must never be many more.
    assert last_nr_fds < nr_fds + 10
    assert last_nr_maps < nr_maps + 10
    assert end(process, signal.SIGTERM) == (0, b"")


# --- domain numbers ----------------------------------------------------------


def test_guests_get_numbers_of_their_own(rig: Rig) -> None:
    first, second = rig.start("s"), rig.start("s")
    started(first)
    started(second)
    assert rig.left() == ["vmcore.1", "vmcore.2"]
    refused = rig.run("p", "-domid", "2")
    assert refused.returncode == 1
    assert b"domain 2 is running already" in refused.stderr
    end(first, signal.SIGTERM)
    end(second, signal.SIGTERM)


# --- refusals ----------------------------------------------------------------


def test_refusals_are_one_line_and_leave_nothing(
    rig: Rig, tmp_path: Path
) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"not a kernel" * 100)
    cases = [
        (["-kernel", str(tmp_path / "none")], 2, "No such file"),
        (["-kernel", str(junk)], 2, "junk"),
        (["-initrd", str(tmp_path / "none")], 2, "initrd"),
        (["-m", "1"], 2, "too little memory"),
        (["-append", "x" * 2000], 2, "command line"),
        (["-serial", "tcp:1"], 2, "-serial tcp:1"),
        (["-serial", f"file:{tmp_path}/no/such"], 1, "console file"),
        (["-pidfile", f"{tmp_path}/no/such"], 1, "pidfile"),
        (["-runtime-dir", "/proc/nowhere"], 1, "/proc/nowhere"),
        (["-drive", "x"], 2, "-drive"),
    ]
    for options, status, says in cases:
        done = rig.run("p", *options)
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (status, b""), options
        assert said.startswith("xenner: "), said
        assert said.count("\n") == 1, said
        assert says in said
        assert rig.left() == []


def test_quirks_from_the_environment(rig: Rig) -> None:
    done = rig.run("p", XENNER_QUIRKS="many")
    assert done.returncode == 2
    assert done.stderr == b"xenner: XENNER_QUIRKS=many: not a number\n"


# --- the background ----------------------------------------------------------


def test_daemonize_returns_when_the_guest_runs(
    rig: Rig, tmp_path: Path
) -> None:
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    done = rig.run(
        *("s", "-daemonize", "-pidfile", str(pidfile)),
        *("-serial", f"file:{log}"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    pid = int(pidfile.read_text())
    try:
        assert rig.left() == ["vmcore.1"]
        until(lambda: log.read_bytes() == b"hello\n")
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists() and not rig.left())


def test_daemonize_with_a_stopped_guest_returns_too(
    rig: Rig, tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    options = ("-daemonize", "-S", "-pidfile", str(pidfile))
    done = rig.run("s", "-serial", "null", *options)
    assert (done.returncode, done.stderr) == (0, b"")
    os.kill(int(pidfile.read_text()), signal.SIGTERM)
    until(lambda: not pidfile.exists() and not rig.left())


def test_daemonize_tells_why_it_could_not(rig: Rig, tmp_path: Path) -> None:
    done = rig.run("s", "-daemonize", "-serial", f"file:{tmp_path}/no/such")
    assert done.returncode == 1
    assert done.stderr.startswith(b"xenner: console file")


def test_daemonize_and_a_guest_that_crashes_later(
    rig: Rig, tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    options = ("-daemonize", "-serial", "null", "-pidfile", str(pidfile))
    done = rig.run("c", *options)
    # It ran; what became of it is not the starter's business any more.
    assert done.returncode == 0
    until(lambda: not pidfile.exists() and not rig.left())


# --- the console -------------------------------------------------------------


def test_what_is_typed_reaches_the_guest(rig: Rig) -> None:
    process = rig.start("e", stdin=subprocess.PIPE)
    out, err = process.communicate(b"some words.", timeout=limit_s(15))
    assert (process.returncode, out, err) == (0, b"hello\nsome words", b"")


def test_a_terminal_is_left_with_its_key_and_put_back(rig: Rig) -> None:
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    process = rig.start("e", stdin=theirs, stdout=theirs)
    try:
        read_until(ours, b"hello\r\n")
        os.write(ours, b"a\x03b")
        read_until(ours, b"a\x03b")
        os.write(ours, b"\x1d")
        _, err = process.communicate(timeout=limit_s(15))
        assert (process.returncode, err) == (0, b"\r\n")
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_pty(rig: Rig) -> None:
    process = rig.start("e", "-serial", "pty")
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    terminal = os.open(line.split()[-1], os.O_RDWR | os.O_NOCTTY)
    try:
        link = rig.runtime_dir / "console.1"
        assert os.readlink(link) == line.split()[-1]
        read_until(terminal, b"hello\n")
        os.write(terminal, b"xyz.")
        read_until(terminal, b"xyz")
        assert process.wait(timeout=limit_s(15)) == 0
    finally:
        os.close(terminal)


def test_a_stuck_reader_does_not_keep_the_process_from_ending(
    rig: Rig,
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, bytes(1 << 16))
    os.set_blocking(writer, True)
    process = rig.start("s", stdout=writer)
    os.close(writer)
    try:
        until(lambda: rig.left() == ["vmcore.1"])
        time.sleep(1)
        assert end(process, signal.SIGTERM) == (0, b"")
    finally:
        os.close(reader)


# --- the monitor -------------------------------------------------------------


def rip_in(core: Path) -> int:
    """vCPU 0's rip in an ELF core of ours."""
    value: int = struct.unpack_from("<Q", core.read_bytes(), _RIP_AT)[0]
    return value


def with_client(
    path: Path, script: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    """Run `script` with QEMU's own client connected to the socket."""

    async def session() -> None:
        client = QMPClient("test")
        await client.connect(str(path))
        await script(client)
        # The other side may have ended first.
        with suppress(EOFError):
            await client.disconnect()

    asyncio.run(asyncio.wait_for(session(), limit_s(30)))


def test_qemus_client_starts_stops_and_ends_a_guest(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "qmp"
    options = ("-S", "-monitor", f"unix:{path}", "-name", "web")
    process = rig.start("s", *options)
    until(path.exists)
    spin = tiny_symbols()["spin"]

    def rip() -> int:
        return rip_in(rig.runtime_dir / "vmcore.1")

    async def script(client: Any) -> None:
        status = await client.execute("query-status")
        assert status == {"running": False, "status": "prelaunch"}
        assert rip() == tiny_symbols()["_start"]
        await client.execute("cont")
        await asyncio.to_thread(started, process)
        assert (await client.execute("query-status"))["running"]
        assert rip() != spin
        await client.execute("stop")
        # It has said hello, and has a few instructions left until it spins.
        while rip() != spin:
            await client.execute("cont")
            await client.execute("stop")
        assert (await client.execute("query-status"))["status"] == "paused"
        await client.execute("cont")
        statistics = await client.execute("x-xenner-statistics")
        hypercalls = statistics["vcpus"][0]["hypercalls"]
        assert hypercalls["event_channel_op"] == 1
        cpus = await client.execute("query-cpus-fast")
        assert Path(f"/proc/{process.pid}/task/{cpus[0]['thread-id']}").exists()
        assert (await client.execute("query-name")) == {"name": "web"}
        await client.execute("system_reset")
        await asyncio.to_thread(started, process)
        await client.execute("quit")

    with_client(path, script)
    _, err = process.communicate(timeout=limit_s(15))
    assert (process.returncode, err) == (0, b"")


def test_qemus_client_dumps_counts_and_is_refused(
    rig: Rig, tmp_path: Path
) -> None:
    path, dump = tmp_path / "qmp", tmp_path / "dump"
    process = rig.start("s", "-monitor", f"unix:{path}")
    started(process)
    link = rig.runtime_dir / "monitor.1"
    assert link.readlink() == path

    async def script(client: Any) -> None:
        arguments = {
            "paging": False,
            "protocol": f"file:{dump}",
            "detach": False,
        }
        await client.execute("dump-guest-memory", arguments)
        # It has said hello, and has a few instructions left until it spins.
        while rip_in(dump) != tiny_symbols()["spin"]:
            await client.execute("dump-guest-memory", arguments)
        assert (await client.execute("query-status"))["running"]
        size = await client.execute("query-memory-size-summary")
        assert size == {"base-memory": 16 << 20}
        assert await client.execute("query-block") == []
        for target, wanted in (("vcpu", "exits"), ("vm", "remote_tlb_flush")):
            for result in await client.execute(
                "query-stats", {"target": target}
            ):
                names = {stat["name"] for stat in result["stats"]}
                assert wanted in names
        known = await client.execute("query-commands")
        assert {"name": "dump-guest-memory"} in known
        with pytest.raises(ExecuteError) as refused:
            await client.execute("balloon", {"value": 0})
        assert refused.value.error_class == "GenericError"

    with_client(link, script)
    assert end(process, signal.SIGTERM) == (0, b"")
    listing = subprocess.run(
        ["readelf", "-lW", dump], capture_output=True, text=True, check=True
    )
    assert "CORE (Core file)" in listing.stdout
    assert not listing.stderr


def test_a_client_that_never_reads_holds_nobody_up(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "qmp"
    process = rig.start("e", "-monitor", f"unix:{path}", stdin=subprocess.PIPE)
    started(process)
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.sendall(b'{"execute": "qmp_capabilities"}')
        rude.setblocking(False)
        # Until the monitor takes no more of it: nothing is read of all that
        # is answered.
        with suppress(BlockingIOError):
            while True:
                rude.send(b'{"execute": "query-commands"}' * 100)

        async def script(client: Any) -> None:
            for _ in range(50):
                await client.execute("stop")
                await client.execute("cont")
            cpus = await client.execute("query-cpus-fast")
            assert len(cpus) == 1

        with_client(path, script)
        out, err = process.communicate(b"words.", timeout=limit_s(15))
    assert (process.returncode, out, err) == (0, b"words", b"")


def test_an_end_from_outside_is_an_event_too(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    process = rig.start("s", "-monitor", f"unix:{path}")
    started(process)
    seen: list[dict[str, Any]] = []

    async def script(client: Any) -> None:
        process.send_signal(signal.SIGTERM)
        async for event in client.events:
            seen.append(event["data"])
            break

    with_client(path, script)
    assert seen == [{"guest": False, "reason": "host-signal"}]
    assert process.wait(timeout=limit_s(15)) == 0


def test_the_end_is_an_event(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    process = rig.start("c", "-S", "-monitor", f"unix:{path}")
    until(path.exists)
    seen: list[str] = []

    async def script(client: Any) -> None:
        await client.execute("cont")
        async for event in client.events:
            seen.append(event["event"])
            if event["event"] == "SHUTDOWN":
                break

    with_client(path, script)
    assert seen == ["RESUME", "GUEST_PANICKED", "SHUTDOWN"]
    assert process.wait(timeout=limit_s(15)) == 1


# --- what -d says ------------------------------------------------------------


def test_statistics_are_one_line_of_json(rig: Rig) -> None:
    done = rig.run("p", "-d", "stats")
    statistics = json.loads(done.stderr)
    assert statistics["traps"] >= 2
    assert statistics["startup_s"] > 0
    assert statistics["kvm"] in ("software", "hardware")


def test_exits_are_named(rig: Rig) -> None:
    done = rig.run("p", "-d", "exits")
    assert b"xenner.exits: vcpu 0: request from emu" in done.stderr


def test_the_flight_recorder_on_request(rig: Rig) -> None:
    said = rig.run("p", "-d", "trace").stderr.decode()
    assert said.startswith("vcpu 0: last hypercalls and traps\n")
    assert "event_channel_op(0x4" in said
    assert "sched_op(0x2" in said
