# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/xenstore: each operation over the Unix socket, against C xenstored.

Both serve the same client, bench/xenstore_client.c, in turn. Ours writes its
journal to tmpfs, as it does in service; C xenstored keeps nothing. Two
context switches make most of a request, so the server's own time on the CPU
for each request is reported as well: a busy machine disturbs it less.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.results import AbsentError, Result, in_turn, median

_BENCH = "xenstore"
_TOP = Path(__file__).resolve().parent.parent
_PEER_NAME = "C xenstored"
_SECONDS = 0.5
_ROUNDS = 5
_PATIENCE_S = 10
# As the client names them; the table is that of Xen's own figures.
_OPERATIONS = (
    *("read", "read-deep", "write", "write-deep", "write-rm", "directory"),
    *("get-domain-path", "transaction-empty", "transaction-rdwr"),
    *("transaction-10-writes", "read-32-in-flight", "write-watched"),
    "write-101-watches",
)


def socket_operation(operation: str) -> Result:
    """Requests a second of one kind, one client."""
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="xenner-bench.", dir="/dev/shm")
        )
        client = build_client(Path(name))
        ours = stack.enter_context(running_ours(Path(name) / "ours"))
        peer = stack.enter_context(running_peer(Path(name) / "peer"))
        cpu_us: dict[Path, list[float]] = {ours.path: [], peer.path: []}

        def measure(server: Server) -> float:
            before_s = cpu_s(server.process.pid)
            requests = rate(client, operation, server.path)
            used_s = cpu_s(server.process.pid) - before_s
            cpu_us[server.path].append(1e6 * used_s / (requests * _SECONDS))
            return requests

        ours_rate, peer_rate = in_turn(
            partial(measure, ours), partial(measure, peer), rounds=_ROUNDS
        )
    return Result(
        _BENCH,
        f"socket-{operation}",
        median(ours_rate),
        median(peer_rate),
        _PEER_NAME,
        "req/s",
        "higher",
        {
            "ours_cpu_us": round(median(cpu_us[ours.path]), 2),
            "peer_cpu_us": round(median(cpu_us[peer.path]), 2),
            "ours_all": ours_rate,
            "peer_all": peer_rate,
        },
    )


@dataclass(frozen=True, slots=True)
class Server:
    """A running store and its socket."""

    process: subprocess.Popen[bytes]
    path: Path


def cpu_s(pid: int) -> float:
    """Time that all threads of a process have been on a CPU (proc(5))."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks
    )


def rate(client: Path, operation: str, socket_path: Path) -> float:
    """Requests a second that the client counts."""
    done = subprocess.run(
        [client, socket_path, operation, str(_SECONDS)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return float(done.stdout)


def build_client(directory: Path) -> Path:
    client = directory / "xenstore_client"
    source = _TOP / "bench/xenstore_client.c"
    subprocess.run(["cc", "-O2", "-o", client, source], check=True)
    return client


@contextmanager
def running_ours(directory: Path) -> Iterator[Server]:
    """Our store as a process; yields it."""
    directory.mkdir()
    path = directory / "socket"
    command = [
        *(sys.executable, "-m", "xennerd.store", "--socket", str(path)),
        *("--state", str(directory / "state")),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Server(process, path)
        finally:
            process.terminate()


@contextmanager
def running_peer(directory: Path) -> Iterator[Server]:
    """C xenstored on the drop-in libraries; yields it.

    AbsentError where there is none or it does not start.
    """
    directory.mkdir()
    environment = {**os.environ, "XENSTORED_RUNDIR": str(directory)}
    log = directory / "log"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            peer_command(), env=environment, stdout=said, stderr=said
        ) as process,
    ):
        try:
            path = directory / "socket"
            wait_for_socket(path, process)
            yield Server(process, path)
        except TimeoutError:
            why = log.read_text(errors="replace").strip().replace("\n", "; ")
            raise AbsentError(f"C xenstored does not start: {why}") from None
        finally:
            process.kill()


def peer_command() -> list[str]:
    """XENNER_BENCH_XENSTORED, or Debian's binary with our libraries."""
    if command := os.environ.get("XENNER_BENCH_XENSTORED"):
        return shlex.split(command)
    found = sorted(Path("/usr/lib").glob("xen-*/bin/xenstored"))
    if not found:
        raise AbsentError("no C xenstored: install xen-utils-4.17")
    libraries = _TOP / "build/meson/libs"
    if not libraries.is_dir():
        raise AbsentError(f"C xenstored needs the libraries in {libraries}")
    paths = {path.parent for path in libraries.rglob("libxen*.so.1")}
    search = ":".join(sorted(map(str, paths)))
    return ["env", f"LD_LIBRARY_PATH={search}", str(found[-1]), "-N"]


def wait_for_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    """TimeoutError if it does not come, or its process ends."""
    deadline = time.monotonic() + _PATIENCE_S
    while not path.is_socket():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


CASES: Mapping[str, Callable[[], Result]] = {
    f"socket-{operation}": partial(socket_operation, operation)
    for operation in _OPERATIONS
}
