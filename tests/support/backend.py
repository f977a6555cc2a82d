# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd, xenstore and a backend, all real, and frontends without guests:
what the rigs of blkbackd and netbackd are alike in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from evtchnd.messages import DomainRecord, Type
from tests.support.evtchnd import LIMIT_S, TOP, Client, Daemon
from xenner.listening import listener_of
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore

_VMCORE_BYTES = 32 << 20
_ANSWER_S = 2 * LIMIT_S


def build_program(sources: Path, directory: Path) -> Path:
    """The program of frontend*.c in `sources`."""
    program = directory / "frontend"
    subprocess.run(
        [
            *"gcc -O2 -std=gnu11 -Wall -Wextra -Werror -pthread".split(),
            "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
            *("-D_GNU_SOURCE", f"-I{TOP}", "-o", program),
            *sorted(sources.glob("frontend*.c")),
            TOP / "tests/support/domain.c",
            TOP / "libs/client/client.c",
            TOP / "libs/client/paths.c",
        ],
        check=True,
    )
    return program


@dataclass
class BackendRig:
    """What is running."""

    daemon: ClassVar[str]

    directory: Path
    evtchnd: Daemon
    store: Xenstore
    program: Path
    backend: subprocess.Popen[str] | None = None
    processes: list[FrontendProcess] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.directory / "xenstore"

    @property
    def status_socket(self) -> Path:
        return self.evtchnd.runtime_dir / f"{self.daemon}.socket"

    def read(self, path: str) -> str | None:
        return self.store.find(path)

    def wait_node(self, path: str, value: str | None) -> None:
        """Until the node has that value; the backend's own pace."""
        end = time.monotonic() + LIMIT_S
        while (now := self.read(path)) != value:
            assert time.monotonic() < end, (
                f"{path} is {now}, not {value}: {self.log()}"
            )

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def wait_log(self, text: str, count: int = 1) -> None:
        """Until the log has it so often."""
        self._wait(lambda: self.log().count(text) >= count)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, self.log()

    def environment(self) -> dict[str, str]:
        return {
            **self.evtchnd.environment(),
            "XENSTORED_PATH": str(self.socket),
        }

    def command(self, *words: str) -> Sequence[str]:
        """Where the backend runs."""
        return words

    def start_backend(self) -> None:
        # That of one which was killed.
        self.status_socket.unlink(missing_ok=True)
        with (self.directory / "log").open("a") as log:
            self.backend = subprocess.Popen(
                self.command(sys.executable, "-m", self.daemon),
                cwd=TOP,
                env=self.environment(),
                stderr=log,
                text=True,
            )

    def stop_backend(self) -> None:
        """It answers what it has taken, and ends well."""
        assert self.backend is not None
        # One that is still starting would die of the signal.
        self._wait(self.status_socket.exists)
        self.backend.terminate()
        assert self.backend.wait(LIMIT_S) == 0, self.log()
        self.backend = None

    def kill_backend(self) -> None:
        """At once, wherever it is."""
        assert self.backend is not None
        self.backend.kill()
        self.backend.wait(LIMIT_S)
        self.backend = None

    def lose_store(self) -> str:
        """Kill xenstore; the backend ends, and nobody has told it to. What it
        had to say last."""
        assert self.backend is not None
        pid = listener_of(self.socket)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert self.backend.wait(LIMIT_S) == 1, self.log()
        self.backend = None
        return self.log().splitlines()[-1]

    def status(self, *options: str) -> str:
        """What `DAEMON --status` says."""
        return subprocess.run(
            [sys.executable, "-m", self.daemon, "--status", *options],
            cwd=TOP,
            env=self.environment(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def start_process(self, domid: int) -> subprocess.Popen[str]:
        """The program of a domain, with its memory."""
        vmcore = self.evtchnd.runtime_dir / f"vmcore.{domid}"
        vmcore.touch()
        os.truncate(vmcore, _VMCORE_BYTES)
        return subprocess.Popen(
            [self.program, str(domid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            text=True,
        )

    def close(self) -> None:
        for frontend in self.processes:
            frontend.end()
            for stream in (frontend.process.stdin, frontend.process.stdout):
                assert stream is not None
                stream.close()
            os.close(frontend.pidfd)
        if self.backend is not None:
            self.kill_backend()


@dataclass
class FrontendProcess:
    """A domain with one device: its process, and its nodes in xenstore."""

    rig: BackendRig
    domid: int
    process: subprocess.Popen[str]
    pidfd: int = -1

    @property
    def backend(self) -> str:
        raise NotImplementedError

    @property
    def path(self) -> str:
        raise NotImplementedError

    def ask(self, line: str) -> str:
        """See frontend_main.c."""
        self.tell(line)
        answer = self.hear()
        assert answer, f"the frontend died of {line!r}"
        return answer

    def tell(self, line: str) -> None:
        """Likewise; the answers are for later."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """The next line of its answer; none of one that dies, or that is not
        answered itself."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(_ANSWER_S, self.process.kill)
        watchdog.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            watchdog.cancel()
            watchdog.join()

    def write_nodes(self, values: dict[str, object]) -> None:
        """The backend's, as libxl does, and the frontend's first."""
        store = self.rig.store
        store.write(f"{self.path}/backend", self.backend)
        store.write(f"{self.path}/state", "1")
        for name, value in values.items():
            store.write(f"{self.backend}/{name}", str(value))
        store.write(f"{self.backend}/state", "1")

    def set_state(self, state: XenbusState) -> None:
        self.rig.store.write(f"{self.path}/state", str(int(state)))

    def close(self) -> None:
        """As a driver that is unloaded."""
        self.set_state(XenbusState.CLOSING)
        self.wait_backend(XenbusState.CLOSING)
        self.set_state(XenbusState.CLOSED)
        self.wait_backend(XenbusState.CLOSED)

    def wait_backend(self, state: XenbusState) -> None:
        self.rig.wait_node(f"{self.backend}/state", str(int(state)))

    def backend_state(self) -> XenbusState:
        return parse_state(self.rig.read(f"{self.backend}/state"))

    def node(self, name: str) -> str | None:
        return self.rig.read(f"{self.backend}/{name}")

    def end(self) -> None:
        """Dead, as by a crash; its nodes stay."""
        self.process.kill()
        self.process.wait(LIMIT_S)


_Frontend = TypeVar("_Frontend", bound=FrontendProcess)


def register(frontend: _Frontend) -> _Frontend:
    """Make its process a domain, with nothing in xenstore yet."""
    rig = frontend.rig
    frontend.pidfd = os.pidfd_open(frontend.process.pid)
    rig.processes.append(frontend)
    record = DomainRecord(
        frontend.domid,
        nr_ports=4096,
        nr_vcpus=1,
        nr_pages=_VMCORE_BYTES >> 12,
    )
    with Client(rig.evtchnd.path) as launcher:
        launcher.must(Type.REGISTER, [frontend.pidfd], domain=record)
    assert frontend.ask("start") == "started"
    return frontend


@contextmanager
def open_store(directory: Path) -> Iterator[None]:
    """xenstore at `directory`/xenstore."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "xenstored"),
            *("--socket", directory / "xenstore"),
        ],
        cwd=TOP,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"listening")
        yield
    finally:
        process.kill()
        process.wait(LIMIT_S)
        process.stdout.close()


def number(answer: str, name: str) -> float:
    """`name=VALUE` of a line."""
    found = re.search(rf"\b{name}=([\d.]+)", answer)
    assert found is not None, answer
    return float(found[1])
