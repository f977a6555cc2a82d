# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own kernel under `xenner`: it boots, ends, crashes, is looked at."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.environments import programs
from tests.environments.rules import limit_s
from tests.support.qmp import qmp

ROOT = Path(__file__).parent.parent.parent
INIT = """\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo XENNER-INIT
for word in $(cat /proc/cmdline); do
    case $word in
    test.reboot) reboot -f ;;
    test.crash) echo c >/proc/sysrq-trigger ;;
    test.sleep) while :; do sleep 1000; done ;;
    test.echo) stty -echo; read line; echo "got <$line>" ;;
    test.cpus) echo cpus $(grep -c ^processor /proc/cpuinfo) ;;
    test.date) date +"date %s"; cat /sys/hypervisor/uuid ;;
    test.run=*) "${word#test.run=}" ;;
    test.torture=*) torture "${word#test.torture=}" ;;
    esac
done
poweroff -f
"""

# Under emulation a boot takes 15 s to a minute: the machine has the two that
# cover the most, and the host all.
_HOST_ONLY = pytest.mark.environments("host")

Boot = Callable[..., subprocess.Popen[bytes]]


@dataclass(frozen=True, slots=True)
class Disk:
    """The initramfs, and the torture programs that are in it."""

    initramfs: Path
    torture: Path
    torture32: Path
    int80: Path


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    directory = tmp_path_factory.mktemp("debian")
    made = [programs.torture(), programs.torture32(), programs.int80()]
    initramfs = directory / "initramfs"
    files = {f"bin/{path.name}": path.read_bytes() for path in made}
    initramfs.write_bytes(make_initramfs(INIT.encode(), files))
    return Disk(initramfs, *made)


@pytest.fixture(scope="module")
def debugger() -> None:
    """Skip where gdb or readelf is missing: the lab has neither."""
    for program in ("gdb", "readelf"):
        if not shutil.which(program):
            pytest.skip(f"tools: {program} is not installed")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory on tmpfs; the tests see to it that it ends up empty."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)
        assert not list(Path(name).iterdir())


@pytest.fixture
def boot(
    usable_kvm: None, debian_kernel: Path, disk: Disk, runtime: Path
) -> Iterator[Boot]:
    """Start a guest; what still runs at the end of the test is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start(cmdline: str, *options: str | Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "xennerd.standalone",
                "-kernel",
                debian_kernel,
                "-initrd",
                disk.initramfs,
                "-runtime-dir",
                runtime,
                "-append",
                f"console=hvc0 panic=-1 {cmdline}",
                *options,
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            # The first one asks the guest, whose init hears nothing.
            process.terminate()
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=limit_s(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Status, console and standard error of a guest that ends by itself."""
    out, err = process.communicate(timeout=limit_s(90))
    return process.returncode, out.decode(), err.decode()


def wait_for(process: subprocess.Popen[bytes], marker: bytes) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if marker in line:
            return
    raise AssertionError(f"the guest ended before {marker!r}")


def test_boots_and_powers_off(boot: Boot) -> None:
    began = time.time()
    status, console, errors = finish(boot("test.date", "-d", "stats"))
    assert status == 0, errors
    assert "XENNER-INIT" in console
    assert "Hypervisor detected: Xen PV" in console
    assert "W+X pages found" not in console.replace("no W+X pages found", "")
    assert "BUG" not in console
    assert "WARNING: CPU" not in console
    match = re.search(r"^date ([0-9]+)", console, re.M)
    assert match
    # date(1) has whole seconds, and the guest's clock is set to some.
    assert began - 2 <= int(match[1]) <= time.time() + 2
    numbers = json.loads(errors.splitlines()[-1])
    assert numbers["traps"] > 0
    assert numbers["vcpus"][0]["hypercall_unknown"] < 20


@_HOST_ONLY
def test_uuid_reaches_the_guest(boot: Boot) -> None:
    uuid = "12345678-9abc-4def-8123-456789abcdef"
    status, console, _errors = finish(boot("test.date quiet", "-uuid", uuid))
    assert status == 0
    assert uuid in console


@_HOST_ONLY
def test_console_input(boot: Boot) -> None:
    process = boot("test.echo quiet")
    wait_for(process, b"XENNER-INIT")
    assert process.stdin is not None
    process.stdin.write(b"hello xenner\n")
    process.stdin.flush()
    status, console, _errors = finish(process)
    assert status == 0
    assert "got <hello xenner>" in console


@_HOST_ONLY
def test_reboot_starts_anew(boot: Boot) -> None:
    process = boot("test.reboot quiet")
    wait_for(process, b"XENNER-INIT")
    wait_for(process, b"XENNER-INIT")
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


@_HOST_ONLY
def test_no_reboot(boot: Boot) -> None:
    status, console, _errors = finish(boot("test.reboot quiet", "-no-reboot"))
    assert status == 0
    assert console.count("XENNER-INIT") == 1


@_HOST_ONLY
def test_crash_is_told_with_registers(boot: Boot) -> None:
    status, console, errors = finish(boot("test.crash"))
    assert status == 1
    assert "sysrq triggered crash" in console
    assert "crashed" in errors
    assert re.search(r"^RIP: +e033:\[<ffffffff", errors, re.M)
    assert "Guest stack trace" in errors
    assert "sched_op(0x2," in errors


@_HOST_ONLY
def test_killed_leaves_what_the_next_start_removes(
    boot: Boot, runtime: Path
) -> None:
    process = boot("test.sleep quiet", "-domid", "7")
    wait_for(process, b"XENNER-INIT")
    process.kill()
    process.communicate()
    assert (runtime / "vmcore.7").exists()
    assert finish(boot("quiet", "-domid", "7"))[0] == 0


@_HOST_ONLY
def test_a_running_domid_is_refused(boot: Boot) -> None:
    process = boot("test.sleep quiet", "-domid", "7")
    wait_for(process, b"XENNER-INIT")
    status, _console, errors = finish(boot("quiet", "-domid", "7"))
    assert status == 1
    assert "is running already" in errors
    assert len(errors.splitlines()) == 1


@_HOST_ONLY
def test_vmcore_is_a_live_elf_core(
    boot: Boot, runtime: Path, debugger: None
) -> None:
    process = boot("test.sleep quiet", "-domid", "3")
    wait_for(process, b"XENNER-INIT")
    core = runtime / "vmcore.3"
    told = subprocess.run(
        ["readelf", "-a", core], capture_output=True, text=True, check=True
    )
    assert "NT_PRSTATUS" in told.stdout
    assert not told.stderr
    at = core.read_bytes().find(b"Linux version 6.")
    assert at > 0
    gdb = subprocess.run(
        ["gdb", "-batch", "-nx", "-c", core, "-ex", f"x/s {at:#x}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Linux version 6." in gdb.stdout


@_HOST_ONLY
def test_monitor_stops_and_quits(
    boot: Boot, runtime: Path, tmp_path: Path, debugger: None
) -> None:
    path = tmp_path / "qmp"
    process = boot(
        "test.sleep quiet", "-domid", "3", "-monitor", f"unix:{path}"
    )
    wait_for(process, b"XENNER-INIT")
    with qmp(path) as ask:
        assert ask("query-status")["return"]["running"] is True
        ask("stop")
        assert ask("query-status")["return"]["status"] == "paused"
        gdb = subprocess.run(
            [
                "gdb",
                "-batch",
                "-nx",
                "-c",
                runtime / "vmcore.3",
                "-ex",
                "p/x $rip",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"\$1 = 0x[0-9a-f]{4,}$", gdb.stdout, re.M)
        assert "0xffff8080" not in gdb.stdout  # never emu's own
        ask("cont")
        assert ask("nonsense")["error"]["class"] == "CommandNotFound"
        assert ask("x-xenner-statistics")["return"]["traps"] != 0
        ask("quit")
    assert finish(process)[0] == 0
    assert not path.exists()


@_HOST_ONLY
def test_daemonize_and_pidfile(
    boot: Boot, runtime: Path, tmp_path: Path
) -> None:
    console, pidfile = tmp_path / "console", tmp_path / "pid"
    process = boot(
        "test.sleep quiet", "-daemonize", "-serial", f"file:{console}",
        "-pidfile", pidfile,
    )  # fmt: skip
    assert finish(process)[0] == 0
    pid = int(pidfile.read_text())
    deadline = time.monotonic() + limit_s(60)
    while b"XENNER-INIT" not in console.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    while pidfile.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while list(runtime.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _output_here(program: Path) -> str:
    return subprocess.run(
        [program],
        capture_output=True,
        text=True,
        check=True,
        timeout=limit_s(120),
    ).stdout


def _tortures(text: str) -> list[str]:
    """What each program said between its begin and its end."""
    return re.findall(r"^torture: begin.*?^torture: end", text, re.M | re.S)


@pytest.mark.parametrize(
    "nr_vcpus",
    [
        1,
        # With as many vCPUs as it has processors the lab's KVM loses a boot
        # now and then (docs/lab.md).
        pytest.param(2, marks=_HOST_ONLY),
        pytest.param(4, marks=_HOST_ONLY),
    ],
)
def test_torture_sees_what_the_host_sees(
    boot: Boot, disk: Disk, nr_vcpus: int
) -> None:
    on_host = _output_here(disk.torture)
    # The page is the kernel's to have: the guest's has it if ours has.
    ours = Path("/proc/self/maps").read_text()
    vsyscall = "emulate" if "[vsyscall]" in ours else "none"
    status, console, errors = finish(
        boot(
            f"quiet vsyscall={vsyscall} test.cpus test.run=torture",
            *("-smp", str(nr_vcpus)),
        )
    )
    assert status == 0, errors
    inside = console.replace("\r", "")
    assert f"\ncpus {nr_vcpus}\n" in inside
    assert _tortures(inside) == _tortures(on_host)


def test_32_bit_programs_see_what_the_host_shows_them(
    boot: Boot, disk: Disk, kvm_kind: str
) -> None:
    """A software KVM interprets them, without floating point and with a %gs
    until the next switch of tasks: one without a library lives there, and
    whoever looks after the guest is told."""
    here = [disk.int80]
    if kvm_kind == "hardware":
        here.append(disk.torture32)
    runs = " ".join(f"test.run={path.name}" for path in here)
    status, console, errors = finish(boot(f"quiet {runs}"))
    assert status == 0, errors
    expected = "".join(_output_here(path) for path in here)
    nr_notices = 0
    if kvm_kind == "software":
        expected, changed = re.subn(
            r"(signal: x87 +)0$", rf"\g<1>{signal.SIGILL}", expected, flags=re.M
        )
        assert changed == 1
        nr_notices = 1
        expected, console = (
            re.sub(r"^through gs, later .*\n", "", text, flags=re.M)
            for text in (expected, console)
        )
    assert _tortures(console.replace("\r", "")) == _tortures(expected)
    assert errors.count("32-bit program") == nr_notices


def _checksum(data: bytes) -> int:
    """As tests/torture has it."""
    total = 2166136261
    for byte in data:
        total = (total ^ byte) * 16777619 & 0xFFFFFFFF
    return total


def test_ports_of_a_process(boot: Boot) -> None:
    """A process has the ports that its kernel gave it, and no others."""
    page = 4096
    numbered = bytes(range(256)) * (4 * page // 256)
    read = numbered[:100] + b"\xff" * (2 * page) + numbered[100 + 2 * page :]
    zeros = b"\xff" * (3 * page + 5) + bytes(page - 5)
    segv = 11
    expected = {
        "none": segv,
        "ioperm": 0,
        "inb": 0xFF,
        "inw": 0xFFFF,
        "inl": -1,
        "a child has them": 0,
        "behind": segv,
        "over the end": segv,
        "cli": segv,
        "insb, bytes": 3 * page + 5,
        "insb": _checksum(zeros),
        "insb in a child": _checksum(read) & 0x7F,
        "the parent's are its own": _checksum(numbered),
        "insb to the kernel": segv,
        "insb to the hole": segv,
        "insb, read-only": segv,
        "insb to nothing": segv,
        "ioperm, none": 0,
        "none again": segv,
        "iopl": 0,
        "with iopl": 0x20,
        "any": 0xFF,
        "iopl 0": 0,
        "none at last": segv,
    }
    status, console, errors = finish(boot("quiet test.torture=ports"))
    assert status == 0, errors
    got = {
        name: int(value)
        for name, value in re.findall(
            r"^ports: (.*?)\s+(-?\d+)$", console.replace("\r", ""), re.M
        )
    }
    assert got == expected


def test_what_a_program_has_its_kernel_arm(boot: Boot, kvm_kind: str) -> None:
    """Signals, where it takes effect: SIGSEGV for a time stamp, SIGTRAP for a
    watchpoint, SIGILL for an instruction that its kernel does not allow.

    A software KVM runs ring 3 with the host's CR4 and without breakpoints.
    """
    status, console, errors = finish(
        boot("quiet nofsgsbase test.torture=armed")
    )
    assert status == 0, errors
    seen = dict(re.findall(r"^armed: (.*\S) +(-?[0-9]+)\r?$", console, re.M))
    on_hardware = {
        "time stamp": signal.SIGSEGV,
        "in strict mode": signal.SIGSEGV,
        "watchpoint": signal.SIGTRAP,
        "FSGSBASE": 0,
        "rdfsbase": signal.SIGILL,
    }
    is_hardware = kvm_kind == "hardware"
    nothing = dict.fromkeys(on_hardware, 0)
    assert seen == {
        name: str(int(number))
        for name, number in (on_hardware if is_hardware else nothing).items()
    }
    assert errors.count("hardware breakpoint") == (0 if is_hardware else 1)
