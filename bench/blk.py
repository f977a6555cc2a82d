# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/blk: blkbackd against fio on the same file.

fio does the same reads and writes with libaio and O_DIRECT and nothing else:
it is the limit. A frontend in C drives blkbackd, without a guest. CPU time is
blkbackd's alone, and fio's. QEMU's own backend of Xen's disks, on the same
libraries, has the same frontend. Debian's build cannot be asked for O_DIRECT:
its open file is given it from outside.
"""

import ctypes
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.blkguest import open_guest
from bench.placing import on_processor, processors
from bench.results import AbsentError, Result, in_turn, median
from bench.xenstore import cpu_s
from tests.support.backend import number
from tests.support.blk.rig import (
    Frontend,
    Rig,
    build_frontend,
    open_rig,
)
from tests.support.blk.xenqemu import end_qemus, find_qemu

_BENCH = "blk"
_DOMID = 319
_FILE_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20
_RING_PAGES = 4
_SECONDS = 1.0
_ROUNDS = 5
_SECTOR_BYTES = 512
# QEMU's backend and ours both keep this machine's disk busy: how fast they are
# shows on a file in memory, which takes O_DIRECT since Linux 6.6.
_MEMORY = "/dev/shm"
_PIDFD_GETFD = 438  # asm/unistd_64.h


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the disk; 128 KiB in sequence, 4 KiB anywhere."""

    is_write: bool
    block_bytes: int
    depth: int

    @property
    def is_sequential(self) -> bool:
        return self.block_bytes > 4096

    @property
    def kind(self) -> str:
        return "write" if self.is_write else "read"

    def fio_options(self) -> list[str]:
        """What any fio is told of it."""
        return [
            *("--direct=1", "--ioengine=libaio", "--output-format=json"),
            f"--rw={'' if self.is_sequential else 'rand'}{self.kind}",
            *(f"--bs={self.block_bytes}", f"--iodepth={self.depth}"),
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """Connected disks, alike, and the files behind them."""

    rig: Rig
    frontends: Sequence[Frontend]
    files: Sequence[Path]

    def rate(self, load: Load, frontends: Sequence[Frontend]) -> float:
        """Requests in a second of these frontends, all at once."""
        nr_sectors = _FILE_BYTES // len(self.files) // _SECTOR_BYTES
        for frontend in frontends:
            frontend.tell(
                f"bench {int(load.is_write)} {load.block_bytes} {load.depth}"
                f" {_SECONDS} {nr_sectors} {int(load.is_sequential)}"
            )
        answers = [frontend.hear() for frontend in frontends]
        return sum(
            number(x, "requests") / number(x, "seconds") for x in answers
        )

    def ours(self, load: Load) -> tuple[float, float]:
        """Requests in a second, and CPU seconds for each."""
        assert self.rig.backend is not None
        before_s = cpu_s(self.rig.backend.pid)
        rate = self.rate(load, self.frontends)
        used_s = cpu_s(self.rig.backend.pid) - before_s
        return rate, used_s / (rate * _SECONDS)


def fio(load: Load, files: Sequence[Path]) -> tuple[float, float]:
    """The same of fio's, with a job for each file."""
    jobs = [
        word
        for i, file in enumerate(files)
        for word in (f"--name=peer{i}", f"--filename={file}")
    ]
    done = subprocess.run(
        [
            *("fio", "--time_based", f"--runtime={_SECONDS}s"),
            *(*load.fio_options(), "--group_reporting", *jobs),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    job = json.loads(done.stdout)["jobs"][0]
    rate = float(job[load.kind]["iops"])
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return rate, busy / rate


def write_file(path: Path, size_bytes: int) -> None:
    """A file that is all there."""
    with path.open("wb") as file:
        for _ in range(size_bytes // _CHUNK_BYTES):
            file.write(os.urandom(_CHUNK_BYTES))
        os.fsync(file.fileno())


@contextmanager
def open_place(*kinds: str, directory: str | None = None) -> Iterator[Place]:
    """blkbackd with a connected frontend for each of `kinds`, "vbd" or
    "qdisk", on as many files, in `directory` if not on the disk.

    AbsentError without fio, or where the files cannot be had with O_DIRECT.
    """
    if shutil.which("fio") is None:
        raise AbsentError("fio is not installed")
    with (
        tempfile.TemporaryDirectory(
            prefix="xenner-bench.", dir=directory
        ) as files,
        tempfile.TemporaryDirectory(dir="/dev/shm") as runtime,
        ExitStack() as stack,
    ):
        rig = stack.enter_context(
            open_rig(Path(runtime), build_frontend(Path(runtime)))
        )
        stack.callback(end_qemus, Path(runtime))
        place = Place(rig, frontends := [], paths := [])
        for i, kind in enumerate(kinds):
            paths.append(path := Path(files) / f"disk{i}")
            write_file(path, _FILE_BYTES // len(kinds))
            frontends.append(_connect(rig, _DOMID + i, kind, path))
        if "is not O_DIRECT" in rig.log():
            raise AbsentError(f"no O_DIRECT in {files}")
        yield place


def _connect(rig: Rig, domid: int, kind: str, path: Path) -> Frontend:
    frontend = rig.start_frontend(domid)
    if kind == "vbd":
        frontend.plug(path)
    elif find_qemu() is None:
        raise AbsentError("Debian's qemu-system-xen is not here")
    else:
        frontend.plug_qdisk("raw", path)
    frontend.connect(nr_pages=_RING_PAGES)
    return frontend


def _measured(
    case: str,
    load: Load,
    ours: Callable[[], float],
    peer: Callable[[], float],
    peer_name: str,
) -> Result:
    """Requests in a second, or MiB in a second of large ones."""
    scale = load.block_bytes / (1 << 20) if load.is_sequential else 1.0
    all_ours, all_peers = in_turn(
        lambda: ours() * scale, lambda: peer() * scale, rounds=_ROUNDS
    )
    return Result(
        _BENCH,
        case,
        median(all_ours),
        median(all_peers),
        peer_name,
        "MiB/s" if load.is_sequential else "IOPS",
        "higher",
        _extra(all_ours, all_peers),
    )


def _rate(case: str, load: Load, nr_disks: int = 1) -> Result:
    with open_place(*["vbd"] * nr_disks) as place:
        return _measured(
            case,
            load,
            lambda: place.ours(load)[0],
            lambda: fio(load, place.files)[0],
            "fio",
        )


def _alone(case: str, load: Load) -> Result:
    """One request at a time: nothing overlaps. Across processors most of it
    is the waking of idle ones, which is the machine's; the ratio is of both on
    one processor, "spread" has what the scheduler makes of it."""
    spread = _rate(case, load)
    with on_processor(processors()[-1]):
        result = _rate(case, load)
    result.extra["spread"] = {"ours": spread.ours, "peer": spread.peer}
    return result


def _qdisk(case: str, load: Load) -> Result:
    on_disk = _qdisk_at(None, case, load)
    result = _qdisk_at(_MEMORY, case, load)
    result.extra["on_disk"] = {"ours": on_disk.ours, "peer": on_disk.peer}
    return result


def _qdisk_at(directory: str | None, case: str, load: Load) -> Result:
    with open_place("vbd", "qdisk", directory=directory) as place:
        ours, peer = place.frontends
        pid_file = place.rig.evtchnd.runtime_dir / f"qdisk.{peer.domid}.pid"
        _make_direct(int(pid_file.read_text()), place.files[1])
        return _measured(
            case,
            load,
            lambda: place.rate(load, [ours]),
            lambda: place.rate(load, [peer]),
            "qemu-qdisk",
        )


def _guest(case: str, load: Load) -> Result:
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as files:
        file = Path(files) / "disk"
        write_file(file, _FILE_BYTES)
        timed = ("--time_based", f"--runtime={_SECONDS}s")
        options = ("--filename=/dev/xvdb", *load.fio_options())
        with open_guest(file) as guest:
            result = _measured(
                case,
                load,
                lambda: float(guest.fio(*options, *timed)[load.kind]["iops"]),
                lambda: fio(load, [file])[0],
                "fio on the host",
            )
            result.extra["per_request"] = guest.per_request(*options)
            return result


def _make_direct(pid: int, path: Path) -> None:
    """O_DIRECT for a file that another process has open. AbsentError."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(entry) != str(path):
                continue
            fd = libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
            if fd < 0:
                reason = os.strerror(ctypes.get_errno())
                raise AbsentError(f"pidfd_getfd: {reason}")
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
            os.close(fd)
            return
    finally:
        os.close(pidfd)
    raise AbsentError(f"process {pid} has not opened {path}")


def _cpu(load: Load) -> Result:
    """CPU time of a request."""
    with open_place("vbd") as place:
        ours, peers = in_turn(
            lambda: place.ours(load)[1] * 1e6,
            lambda: fio(load, place.files)[1] * 1e6,
            rounds=_ROUNDS,
        )
    return Result(
        _BENCH,
        "cpu-4k-qd32",
        median(ours),
        median(peers),
        "fio",
        "us",
        "lower",
        _extra(ours, peers),
    )


def _extra(ours: list[float], peers: list[float]) -> dict[str, object]:
    ratios = [a / b for a, b in zip(ours, peers, strict=True)]
    return {
        "ours_all": ours,
        "peer_all": peers,
        "median_of_ratios": round(median(ratios), 4),
    }


def _cases() -> dict[str, Callable[[], Result]]:
    loads = {
        f"fio-4k-{kind}-qd{depth}": Load(kind == "write", 4096, depth)
        for kind in ("read", "write")
        for depth in (1, 32, 128)
    }
    for kind in ("read", "write"):
        loads[f"fio-128k-{kind}"] = Load(kind == "write", 128 << 10, 32)
    cases = {
        name: partial(_alone if load.depth == 1 else _rate, name, load)
        for name, load in loads.items()
    }
    many = "fio-16disks"
    cases[many] = partial(_rate, many, Load(False, 4096, 8), 16)
    for kind in ("read", "write"):
        name = f"qdisk-4k-{kind}-qd32"
        cases[name] = partial(_qdisk, name, Load(kind == "write", 4096, 32))
        name = f"guest-4k-{kind}-qd32"
        cases[name] = partial(_guest, name, Load(kind == "write", 4096, 32))
    return {**cases, "cpu-4k-qd32": partial(_cpu, Load(False, 4096, 32))}


CASES: Mapping[str, Callable[[], Result]] = _cases()
