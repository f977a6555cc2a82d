# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd, xenstore and blkbackd, all real, and a frontend without a guest."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from evtchnd.messages import DomainRecord, Type
from tests.component.evtchnd.daemon import (
    LIMIT_S,
    TOP,
    Client,
    Daemon,
    open_daemon,
)
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore, XenstoreError

HERE = Path(__file__).resolve().parent
DEVICE = 51712  # xvda
_VMCORE_BYTES = 32 << 20


def build_frontend(directory: Path) -> Path:
    """The program of frontend*.c."""
    program = directory / "frontend"
    subprocess.run(
        [
            *"gcc -O2 -std=gnu11 -Wall -Wextra -Werror -pthread".split(),
            "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
            *("-D_GNU_SOURCE", f"-I{TOP}", "-o", program),
            *sorted(HERE.glob("frontend*.c")),
            TOP / "libs/client/client.c",
        ],
        check=True,
    )
    return program


@dataclass
class Frontend:
    """A domain with one disk: its process, and its nodes in xenstore."""

    rig: "Rig"
    domid: int
    process: subprocess.Popen[str]
    pidfd: int
    port: int = 0
    kind: str = "vbd"

    @property
    def backend(self) -> str:
        return f"/local/domain/0/backend/{self.kind}/{self.domid}/{DEVICE}"

    @property
    def path(self) -> str:
        return f"/local/domain/{self.domid}/device/vbd/{DEVICE}"

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
        """The next line of its answer."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def plug(self, disk: Path, mode: str = "w", **nodes: object) -> None:
        """Write what libxl writes for a disk."""
        store = self.rig.store
        values: dict[str, object] = {
            "frontend": self.path,
            "frontend-id": self.domid,
            "params": disk,
            "online": 1,
            "mode": mode,
            "dev": "xvda",
            "type": "phy",
            "device-type": "disk",
            "discard-enable": 1,
            **nodes,
        }
        store.write(f"{self.path}/backend", self.backend)
        store.write(f"{self.path}/state", "1")
        for name, value in values.items():
            store.write(f"{self.backend}/{name}", str(value))
        store.write(f"{self.backend}/state", "1")

    def connect(self, *, nr_pages: int = 1, bits: int = 64) -> None:
        """As a frontend's driver: a ring, its nodes, and until both are 4."""
        self.wait_backend(XenbusState.INIT_WAIT)
        self.port = int(self.ask(f"open {nr_pages} {bits}").split("=")[1])
        self.publish(nr_pages=nr_pages, bits=bits)
        self.wait_backend(XenbusState.CONNECTED)
        self.set_state(XenbusState.CONNECTED)

    def publish(self, *, nr_pages: int = 1, bits: int = 64) -> None:
        store = self.rig.store
        if nr_pages == 1:
            store.write(f"{self.path}/ring-ref", "8")
        else:
            order = nr_pages.bit_length() - 1
            store.write(f"{self.path}/ring-page-order", str(order))
            for i in range(nr_pages):
                store.write(f"{self.path}/ring-ref{i}", str(8 + i))
        if bits == 32:
            store.write(f"{self.path}/protocol", "x86_32-abi")
        store.write(f"{self.path}/event-channel", str(self.port))
        self.set_state(XenbusState.INITIALISED)

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


@dataclass
class Rig:
    """What is running."""

    directory: Path
    evtchnd: Daemon
    store: Xenstore
    program: Path
    blkbackd: subprocess.Popen[str] | None = None
    frontends: list[Frontend] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.directory / "xenstore"

    def read(self, path: str) -> str | None:
        try:
            return self.store.read(path)
        except XenstoreError as error:
            if error.name != "ENOENT":
                raise
            return None

    def wait_node(self, path: str, value: str | None) -> None:
        """Until the node has that value; the backend's own pace."""
        end = time.monotonic() + LIMIT_S
        while (now := self.read(path)) != value:
            assert time.monotonic() < end, f"{path} is {now}, not {value}"

    def environment(self) -> dict[str, str]:
        return {
            **self.evtchnd.environment(),
            "XENSTORED_PATH": str(self.socket),
        }

    @property
    def status_socket(self) -> Path:
        return self.evtchnd.runtime_dir / "blkbackd.socket"

    def start_blkbackd(self) -> None:
        # That of one which was killed.
        self.status_socket.unlink(missing_ok=True)
        with (self.directory / "log").open("a") as log:
            self.blkbackd = subprocess.Popen(
                [sys.executable, "-m", "blkbackd"],
                cwd=TOP,
                env=self.environment(),
                stderr=log,
                text=True,
            )

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def wait_log(self, text: str, count: int) -> None:
        """Until the log has it so often."""
        end = time.monotonic() + LIMIT_S
        while self.log().count(text) < count:
            assert time.monotonic() < end, self.log()

    def stop_blkbackd(self) -> None:
        """It answers what it has taken, and ends well."""
        assert self.blkbackd is not None
        # One that is still starting would die of the signal.
        end = time.monotonic() + LIMIT_S
        while not self.status_socket.exists():
            assert time.monotonic() < end, self.log()
        self.blkbackd.terminate()
        assert self.blkbackd.wait(LIMIT_S) == 0, self.log()
        self.blkbackd = None

    def kill_blkbackd(self) -> None:
        """At once, wherever it is."""
        assert self.blkbackd is not None
        self.blkbackd.kill()
        self.blkbackd.wait(LIMIT_S)
        self.blkbackd = None

    def start_frontend(self, domid: int) -> Frontend:
        """A domain, with nothing in xenstore yet."""
        vmcore = self.evtchnd.runtime_dir / f"vmcore.{domid}"
        vmcore.touch()
        os.truncate(vmcore, _VMCORE_BYTES)
        process = subprocess.Popen(
            [self.program, str(domid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            text=True,
        )
        pidfd = os.pidfd_open(process.pid)
        frontend = Frontend(self, domid, process, pidfd)
        self.frontends.append(frontend)
        record = DomainRecord(
            domid, nr_ports=4096, nr_vcpus=1, nr_pages=_VMCORE_BYTES >> 12
        )
        with Client(self.evtchnd.path) as launcher:
            launcher.must(Type.REGISTER, [pidfd], domain=record)
        assert frontend.ask("start") == "started"
        return frontend

    def close(self) -> None:
        for frontend in self.frontends:
            frontend.end()
            for stream in (frontend.process.stdin, frontend.process.stdout):
                assert stream is not None
                stream.close()
            os.close(frontend.pidfd)
        if self.blkbackd is not None:
            self.blkbackd.kill()
            self.blkbackd.wait(LIMIT_S)


@contextmanager
def open_rig(directory: Path, program: Path) -> Iterator[Rig]:
    """All but frontends."""
    with (
        open_daemon(directory) as evtchnd,
        _open_store(directory),
        Xenstore(directory / "xenstore") as store,
    ):
        rig = Rig(directory, evtchnd, store, program)
        rig.start_blkbackd()
        try:
            yield rig
            if rig.blkbackd is not None:
                rig.stop_blkbackd()
        finally:
            rig.close()


@contextmanager
def _open_store(directory: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "xennerd.store"),
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
