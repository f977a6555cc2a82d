# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/blk: blkbackd against fio on the same file.

fio does the same reads and writes with libaio and O_DIRECT and nothing else:
it is the limit. A frontend in C drives blkbackd, without a guest. CPU time is
blkbackd's alone, and fio's.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.results import AbsentError, Result, in_turn, median
from bench.xenstore import cpu_s
from tests.component.backend import number
from tests.component.blkbackd.rig import (
    Frontend,
    Rig,
    build_frontend,
    open_rig,
)

_BENCH = "blk"
_DOMID = 319
_FILE_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20
_RING_PAGES = 4
_SECONDS = 1.0
_ROUNDS = 5
_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the disk; 128 KiB in sequence, 4 KiB anywhere."""

    is_write: bool
    block_bytes: int
    depth: int

    @property
    def is_sequential(self) -> bool:
        return self.block_bytes > 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A connected disk, and the file behind it."""

    rig: Rig
    frontend: Frontend
    disk: Path

    def ours(self, load: Load) -> tuple[float, float]:
        """Requests in a second, and CPU seconds for each."""
        assert self.rig.backend is not None
        before_s = cpu_s(self.rig.backend.pid)
        answer = self.frontend.ask(
            f"bench {int(load.is_write)} {load.block_bytes} {load.depth}"
            f" {_SECONDS} {_FILE_BYTES // _SECTOR_BYTES}"
            f" {int(load.is_sequential)}"
        )
        used_s = cpu_s(self.rig.backend.pid) - before_s
        requests = number(answer, "requests")
        return requests / number(answer, "seconds"), used_s / requests

    def fio(self, load: Load) -> tuple[float, float]:
        """The same of fio's."""
        kind = "write" if load.is_write else "read"
        done = subprocess.run(
            [
                *("fio", "--name=peer", f"--filename={self.disk}"),
                *("--direct=1", "--ioengine=libaio", "--time_based"),
                f"--rw={'' if load.is_sequential else 'rand'}{kind}",
                *(f"--bs={load.block_bytes}", f"--iodepth={load.depth}"),
                *(f"--runtime={_SECONDS}s", "--output-format=json"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        job = json.loads(done.stdout)["jobs"][0]
        rate = float(job[kind]["iops"])
        busy = (job["usr_cpu"] + job["sys_cpu"]) / 100
        return rate, busy / rate


@contextmanager
def open_place() -> Iterator[Place]:
    """blkbackd with a connected frontend on a file that is all there.

    AbsentError without fio, or where the file cannot be had with O_DIRECT.
    """
    if shutil.which("fio") is None:
        raise AbsentError("fio is not installed")
    with (
        tempfile.TemporaryDirectory(prefix="xenner-bench.") as files,
        tempfile.TemporaryDirectory(dir="/dev/shm") as runtime,
    ):
        disk = Path(files) / "disk"
        with disk.open("wb") as file:
            for _ in range(_FILE_BYTES // _CHUNK_BYTES):
                file.write(os.urandom(_CHUNK_BYTES))
            os.fsync(file.fileno())
        with open_rig(Path(runtime), build_frontend(Path(runtime))) as rig:
            frontend = rig.start_frontend(_DOMID)
            frontend.plug(disk)
            frontend.connect(nr_pages=_RING_PAGES)
            if "is not O_DIRECT" in rig.log():
                raise AbsentError(f"no O_DIRECT in {files}")
            yield Place(rig, frontend, disk)


def _rate(case: str, load: Load) -> Result:
    """Requests in a second, or MiB in a second of large ones."""
    scale = load.block_bytes / (1 << 20) if load.is_sequential else 1.0
    with open_place() as place:
        ours, peers = in_turn(
            lambda: place.ours(load)[0] * scale,
            lambda: place.fio(load)[0] * scale,
            rounds=_ROUNDS,
        )
    return Result(
        _BENCH,
        case,
        median(ours),
        median(peers),
        "fio",
        "MiB/s" if load.is_sequential else "IOPS",
        "higher",
        _extra(ours, peers),
    )


def _cpu(load: Load) -> Result:
    """CPU time of a request."""
    with open_place() as place:
        ours, peers = in_turn(
            lambda: place.ours(load)[1] * 1e6,
            lambda: place.fio(load)[1] * 1e6,
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
    cases = {name: partial(_rate, name, load) for name, load in loads.items()}
    return {**cases, "cpu-4k-qd32": partial(_cpu, Load(False, 4096, 32))}


CASES: Mapping[str, Callable[[], Result]] = _cases()
