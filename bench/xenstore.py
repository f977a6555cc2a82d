# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/xenstore: each operation over the Unix socket and over a guest's ring,
against C xenstored.

Both serve the same client in turn, bench/xenstore_client.c or the guest of
tests/guests/outside.c. Ours writes its
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

from bench.evtchn import running_evtchnd
from bench.guests import running_guest
from bench.results import AbsentError, Result, in_turn, median

_BENCH = "xenstore"
_TOP = Path(__file__).resolve().parent.parent
_LIBS = _TOP / "build/meson/libs"
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
# Those that tests/guests/outside.c can make.
_RING_OPERATIONS = (
    *("read", "write", "write-rm", "directory", "get-domain-path"),
    *("transaction-empty", "transaction-rdwr"),
)
_RING_ROUNDS = 3


def socket_operation(operation: str) -> Result:
    """Requests a second of one kind, one client."""
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="xenner-bench.", dir="/dev/shm")
        )
        client = build_client(Path(name))
        ours = stack.enter_context(running_ours(Path(name) / "ours"))
        stack.enter_context(running_evtchnd(Path(name)))
        peer = stack.enter_context(
            running_peer(Path(name) / "peer", Path(name))
        )
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


def ring_operation(operation: str) -> Result:
    """The same over a guest's ring: it makes requests, one after the other.

    The guest is one page of code that takes each reply in its event's upcall;
    a round is a boot of its own.
    """
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="xenner-bench.", dir="/dev/shm")
        )
        # A host for each: VIRQ_DOM_EXC is one store's, and C xenstored ends
        # without it.
        our_host, peer_host = Path(name) / "ours", Path(name) / "peer"
        for host in (our_host, peer_host):
            host.mkdir()
            stack.enter_context(running_evtchnd(host))
        serve_rings = ("--evtchnd", str(our_host / "evtchnd.socket"))
        ours = stack.enter_context(
            running_ours(
                our_host / "store",
                *serve_rings,
                *("--runtime-dir", str(our_host)),
            )
        )
        peer = stack.enter_context(running_peer(peer_host / "store", peer_host))

        def measure(server: Server) -> float:
            host = server.path.parents[1]
            option = ("-xenstore", server.path)
            with running_guest(host, f"store={operation}", *option) as guest:
                _, requests, _, duration_ns = guest.wait_line("requests")
                guest.process.wait(_PATIENCE_S)
            return 1e9 * int(requests) / int(duration_ns)

        ours_rate, peer_rate = in_turn(
            partial(measure, ours), partial(measure, peer), rounds=_RING_ROUNDS
        )
    return Result(
        _BENCH,
        f"ring-{operation}",
        median(ours_rate),
        median(peer_rate),
        _PEER_NAME,
        "req/s",
        "higher",
        {"ours_all": ours_rate, "peer_all": peer_rate},
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
def running_ours(directory: Path, *options: str) -> Iterator[Server]:
    """Our store as a process; yields it."""
    directory.mkdir()
    path = directory / "socket"
    command = [
        *(sys.executable, "-m", "xenstored", "--socket", str(path)),
        *("--state", str(directory / "state"), *options),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Server(process, path)
        finally:
            process.terminate()


@contextmanager
def running_peer(directory: Path, runtime_dir: Path) -> Iterator[Server]:
    """C xenstored on the drop-in libraries; yields it.

    It needs the evtchnd of `runtime_dir`. AbsentError where there is no
    xenstored or it does not start.
    """
    directory.mkdir()
    environment = {
        **os.environ,
        "XENNER_RUNTIME_DIR": str(runtime_dir),
        "XENSTORED_RUNDIR": str(directory),
    }
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
    roots = (_TOP / "build/xen-utils/usr/lib", Path("/usr/lib"))
    found = [x for root in roots for x in root.glob("xen-*/bin/xenstored")]
    if not found:
        raise AbsentError("no C xenstored: run tools/setup")
    if not (_LIBS / "libxenevtchn.so.1").exists():
        raise AbsentError(f"C xenstored needs the libraries in {_LIBS}")
    # Its libxenctrl is beside it, if it was only unpacked.
    search = f"{_LIBS}:{found[0].parents[2] / 'x86_64-linux-gnu'}"
    return ["env", f"LD_LIBRARY_PATH={search}", str(found[0]), "-N"]


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
} | {
    f"ring-{operation}": partial(ring_operation, operation)
    for operation in _RING_OPERATIONS
}
