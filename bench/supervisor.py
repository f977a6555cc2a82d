# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/supervisor: many domains on one host, by hand under xennerd."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from bench.boot import daemonized_peer, end, peer_serial, pss_beyond
from bench.machines import (
    IDLE_MARKER,
    KERNEL,
    PEER_NAME,
    TOP,
    initramfs,
    run_ours,
    running,
    tsc_khz,
)
from bench.results import AbsentError, Result, in_turn, median
from xenner.errors import HostError
from xennerd.qmp.client import QmpClient

_BENCH = "supervisor"
_LIBS = TOP / "build/meson/libs"
_XEN = TOP / "build/xen-utils/usr/lib"
_NR_IDLE = 20
_IDLE_S = 10.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_LIMIT_S = 60.0
# The peer's, so that the guests are alike.
_GUEST_MIB = 256


@dataclass
class Suite:
    """xennerd with its daemons and guests, in a directory of its own."""

    directory: Path
    initrd: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        libraries = f"{_LIBS}:{_XEN / 'x86_64-linux-gnu'}"
        return {
            **os.environ,
            "LD_LIBRARY_PATH": libraries,
            "XENNER_RUNTIME_DIR": str(self.directory),
            "XENSTORED_PATH": str(self.directory / "xenstore"),
        }

    def ask(self, name: str, **arguments: object) -> object:
        """xennerd's answer."""
        path = self.directory / "xennerd.socket"
        with QmpClient(path, limit_s=_START_LIMIT_S) as client:
            return client.execute(name, **arguments)

    def create(self, name: str) -> None:
        """One more idle guest."""
        file = self.directory / f"{name}.cfg"
        file.write_text(
            f"name='{name}'\nkernel='{KERNEL}'\nramdisk='{self.initrd}'\n"
            f"memory={_GUEST_MIB}\nextra='console=hvc0 quiet demo.do=idle'\n"
        )
        self.ask("domain-create", file=str(file))

    def guests(self) -> list[int]:
        """Their processes."""
        domains = self.ask("query-domains")
        assert isinstance(domains, list)
        return [domain["pid"] for domain in domains]

    def everybody(self) -> list[int]:
        """All processes of the suite."""
        daemons = self.ask("query-daemons")
        assert isinstance(daemons, list)
        pids = [daemon["pid"] for daemon in daemons]
        return [self.process.pid, *pids, *self.guests()]


@contextmanager
def suite() -> Iterator[Suite]:
    """On a tmpfs, as guests' memory is."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    with (
        initramfs() as initrd,
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        (Path(name) / "log").open("wb") as log,
    ):
        directory = Path(name)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xennerd.supervisor"),
                *("--runtime-dir", directory, "--log-dir", directory / "logs"),
                *("--xenstore", directory / "xenstore"),
                *("--state-dir", directory / "state"),
            ],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        made = Suite(directory, initrd, process)
        try:
            _wait_ready(made)
            yield made
        finally:
            with suppress(HostError):
                for pid in made.guests():
                    end(pid)
            process.terminate()
            process.wait()


def _wait_ready(made: Suite) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and made.process.poll() is None:
        with suppress(HostError):
            made.ask("query-domains")
            return
        time.sleep(0.05)
    raise AbsentError((made.directory / "log").read_text().strip())


def list_domains(nr_domains: int) -> Result:
    """One call of `xennerctl list` beside one of Debian's xl, unmodified, on
    the drop-in libraries: both ask for the same domains."""
    xl = _XEN / "xen-4.17/bin/xl"
    if not xl.exists():
        raise AbsentError("Debian's xl is not unpacked: run tools/setup")

    def timed(command: list[str]) -> float:
        started_at = time.monotonic()
        subprocess.run(
            command,
            env=made.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - started_at

    with suite() as made:
        for number in range(nr_domains):
            made.create(f"guest{number}")
        program = str(Path(sys.executable).with_name("xennerctl"))
        ours_s, peer_s = in_turn(
            lambda: timed([program, "list"]),
            lambda: timed([str(xl), "list"]),
            rounds=7,
        )
    return Result(
        _BENCH,
        f"list-{nr_domains}",
        median(ours_s),
        median(peer_s),
        "xl-list",
        "s",
        "lower",
        {"domains": nr_domains},
    )


def start() -> Result:
    """From `xennerctl create` to the guest's first instruction, beside QEMU's
    -daemonize, which returns at the same point."""

    def ours() -> float:
        before = set(made.guests())
        started_at = time.monotonic()
        made.create(f"guest{next(numbers)}")
        took_s = time.monotonic() - started_at
        for pid in set(made.guests()) - before:
            end(pid)
        return took_s

    numbers = count()
    with suite() as made:
        ours()
        ours_s, peer_s = in_turn(
            ours, lambda: daemonized_peer(made.initrd), rounds=5
        )
    return Result(
        _BENCH,
        "start",
        median(ours_s),
        median(peer_s),
        PEER_NAME,
        "s",
        "lower",
    )


def pss_per_domain() -> Result:
    """Memory of the whole suite beyond the guests' own, for each idle guest
    that is added."""
    with suite() as made, running(_peer(made.initrd)) as peer:
        peer.wait_for(IDLE_MARKER)
        peer_mib = pss_beyond(peer.process.pid)
        made.create("guest")
        one_mib = _beyond_mib(made)
        for number in range(1, _NR_IDLE):
            made.create(f"guest{number}")
        all_mib = _beyond_mib(made)
    return Result(
        _BENCH,
        "pss-per-domain",
        (all_mib - one_mib) / (_NR_IDLE - 1),
        peer_mib,
        PEER_NAME,
        "MiB",
        "lower",
        {"domains": _NR_IDLE, "suite_with_one_mib": round(one_mib, 1)},
    )


def cpu_idle() -> Result:
    """CPU of the whole suite with idle guests, beside that of as many of the
    peer's, of which one is measured."""
    with suite() as made, running(_peer(made.initrd)) as peer:
        peer.wait_for(IDLE_MARKER)
        for number in range(_NR_IDLE):
            made.create(f"guest{number}")
        # They boot for a while before they are idle.
        _wait_idle(made)
        pids = made.everybody()
        before_s, peer_before_s = _cpu_s(pids), _cpu_s([peer.process.pid])
        time.sleep(_IDLE_S)
        used_s = _cpu_s(pids) - before_s
        peer_used_s = _cpu_s([peer.process.pid]) - peer_before_s
    return Result(
        _BENCH,
        f"cpu-{_NR_IDLE}-idle",
        100 * used_s / _IDLE_S,
        100 * _NR_IDLE * max(peer_used_s, 1 / _TICKS_PER_S) / _IDLE_S,
        PEER_NAME,
        "percent of a CPU",
        "lower",
        {"domains": _NR_IDLE, "length_s": _IDLE_S},
    )


def _peer(initrd: Path) -> list[str]:
    khz = tsc_khz(run_ours(initrd, todo="poweroff").console)
    return peer_serial(initrd, todo="idle", khz=khz)


def _wait_idle(made: Suite) -> None:
    """Until a second costs little."""
    deadline = time.monotonic() + 2 * _START_LIMIT_S
    while time.monotonic() < deadline:
        before_s = _cpu_s(made.guests())
        time.sleep(1)
        if _cpu_s(made.guests()) - before_s < 0.5:
            return
    raise AbsentError("the guests do not become idle here")


def _cpu_s(pids: list[int]) -> float:
    """User and system time, proc_pid_stat(5)."""
    ticks = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def _beyond_mib(made: Suite) -> float:
    """PSS of all but what is mapped of vmcores, which is the guests' own."""
    return sum(_pss_mib(pid, made.directory) for pid in made.everybody())


def _pss_mib(pid: int, directory: Path) -> float:
    total_kib, is_guest = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            # A vmcore was made without a name: its directory tells.
            is_guest = len(words) > 5 and words[5].startswith(f"{directory}/")
        elif words[0] == "Pss:" and not is_guest:
            total_kib += int(words[1])
    return total_kib / 1024


CASES: dict[str, Callable[[], Result]] = {
    **{f"list-{n}": partial(list_domains, n) for n in (1, 10, 50)},
    "start": start,
    "pss-per-domain": pss_per_domain,
    f"cpu-{_NR_IDLE}-idle": cpu_idle,
}
