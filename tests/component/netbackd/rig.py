# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd, xenstore and netbackd, all real, and frontends without guests."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from tests.component.netbackd.namespace import Namespace, open_namespace
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore, XenstoreError

HERE = Path(__file__).resolve().parent
_VMCORE_BYTES = 32 << 20
_FEATURES = (
    *("feature-rx-notify", "feature-sg", "feature-gso-tcpv4"),
    *("feature-gso-tcpv6", "feature-ipv6-csum-offload", "request-rx-copy"),
)
# Pages of the rings: frontend.h.
_FIRST_REF = 8


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
    """A domain with one vif: its process, and its nodes in xenstore."""

    rig: "Rig"
    domid: int
    process: subprocess.Popen[str]
    pidfd: int
    nr_queues: int = 1

    @property
    def backend(self) -> str:
        return f"/local/domain/0/backend/vif/{self.domid}/0"

    @property
    def path(self) -> str:
        return f"/local/domain/{self.domid}/device/vif/0"

    @property
    def tap(self) -> str:
        return f"vif{self.domid}.0"

    def ask(self, line: str) -> str:
        """See frontend_main.c."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the frontend died of {line!r}"
        return answer.strip()

    def plug(self, **nodes: object) -> None:
        """Write what libxl writes for a vif."""
        store = self.rig.store
        values: dict[str, object] = {
            "frontend": self.path,
            "frontend-id": self.domid,
            "online": 1,
            "script": "/etc/xen/scripts/vif-bridge",
            "mac": "00:16:3e:00:00:01",
            "handle": 0,
            "type": "vif",
            "hotplug-status": "",
            **nodes,
        }
        store.write(f"{self.path}/backend", self.backend)
        store.write(f"{self.path}/state", "1")
        for name, value in values.items():
            store.write(f"{self.backend}/{name}", str(value))
        store.write(f"{self.backend}/state", "1")

    def connect(
        self,
        *,
        nr_queues: int = 1,
        is_split: bool = True,
        features: tuple[str, ...] = _FEATURES,
    ) -> None:
        """As a frontend's driver: rings, their nodes, and until both are 4."""
        self.wait_backend(XenbusState.INIT_WAIT)
        self.publish(nr_queues, is_split=is_split, features=features)
        self.wait_backend(XenbusState.CONNECTED)
        self.wait_carrier()

    def publish(
        self, nr_queues: int, *, is_split: bool, features: tuple[str, ...]
    ) -> None:
        store = self.rig.store
        said = self.ask(f"open {nr_queues} {int(is_split)}")
        self.nr_queues = nr_queues
        if nr_queues > 1:
            store.write(f"{self.path}/multi-queue-num-queues", str(nr_queues))
        for i, ports in enumerate(said.removeprefix("ports=").split(",")[:-1]):
            tx_port, rx_port = ports.split(":")
            top = f"{self.path}/queue-{i}" if nr_queues > 1 else self.path
            store.write(f"{top}/tx-ring-ref", str(_FIRST_REF + 2 * i))
            store.write(f"{top}/rx-ring-ref", str(_FIRST_REF + 2 * i + 1))
            if is_split:
                store.write(f"{top}/event-channel-tx", tx_port)
                store.write(f"{top}/event-channel-rx", rx_port)
            else:
                store.write(f"{top}/event-channel", tx_port)
        for name in features:
            store.write(f"{self.path}/{name}", "1")
        self.set_state(XenbusState.CONNECTED)

    def wait_carrier(self, has: bool = True) -> None:
        """Until the host sees the link as the guest does."""
        end = time.monotonic() + LIMIT_S
        while self.has_carrier() != has:
            assert time.monotonic() < end, self.rig.log()

    def has_carrier(self) -> bool:
        said = self.rig.net.ip(f"-o link show {self.tap}")
        return "LOWER_UP" in said

    def set_state(self, state: XenbusState) -> None:
        self.rig.store.write(f"{self.path}/state", str(int(state)))

    def close(self) -> None:
        """As a driver that is unloaded."""
        self.set_state(XenbusState.CLOSING)
        self.wait_backend(XenbusState.CLOSING)
        self.set_state(XenbusState.CLOSED)
        self.wait_backend(XenbusState.CLOSED)

    def unplug(self) -> None:
        """As libxl does it, and until it is done."""
        self.rig.store.write(f"{self.backend}/online", "0")
        self.rig.store.write(f"{self.backend}/state", "5")
        self.set_state(XenbusState.CLOSED)
        self.wait_backend(XenbusState.CLOSED)
        self.rig.store.remove(self.backend)

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
    net: Namespace
    netbackd: subprocess.Popen[str] | None = None
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
            assert time.monotonic() < end, (
                f"{path} is {now}, not {value}: {self.log()}"
            )

    def wait_log(self, text: str) -> None:
        end = time.monotonic() + LIMIT_S
        while text not in self.log():
            assert time.monotonic() < end, self.log()

    def environment(self) -> dict[str, str]:
        return {
            **self.evtchnd.environment(),
            "XENSTORED_PATH": str(self.socket),
        }

    @property
    def status_socket(self) -> Path:
        return self.evtchnd.runtime_dir / "netbackd.socket"

    def start_netbackd(self) -> None:
        # That of one which was killed.
        self.status_socket.unlink(missing_ok=True)
        with (self.directory / "log").open("a") as log:
            self.netbackd = subprocess.Popen(
                self.net.command(sys.executable, "-m", "netbackd"),
                cwd=TOP,
                env=self.environment(),
                stderr=log,
                text=True,
            )

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def stop_netbackd(self) -> None:
        """It answers what it has taken, and ends well."""
        assert self.netbackd is not None
        # One that is still starting would die of the signal.
        end = time.monotonic() + LIMIT_S
        while not self.status_socket.exists():
            assert time.monotonic() < end, self.log()
        self.netbackd.terminate()
        assert self.netbackd.wait(LIMIT_S) == 0, self.log()
        self.netbackd = None

    def kill_netbackd(self) -> None:
        assert self.netbackd is not None
        self.netbackd.kill()
        self.netbackd.wait(LIMIT_S)
        self.netbackd = None

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

    def taps(self) -> list[str]:
        """Names of the taps there are."""
        said = self.net.ip("-o link show type tun")
        return re.findall(r"^\d+: ([^:@]+)", said, re.M)

    def close(self) -> None:
        for frontend in self.frontends:
            frontend.end()
            for stream in (frontend.process.stdin, frontend.process.stdout):
                assert stream is not None
                stream.close()
            os.close(frontend.pidfd)
        if self.netbackd is not None:
            self.kill_netbackd()


@contextmanager
def open_rig(directory: Path, program: Path) -> Iterator[Rig]:
    """All but frontends."""
    with ExitStack() as stack:
        net = stack.enter_context(open_namespace())
        evtchnd = stack.enter_context(open_daemon(directory))
        stack.enter_context(_open_store(directory))
        store = stack.enter_context(Xenstore(directory / "xenstore"))
        rig = Rig(directory, evtchnd, store, program, net)
        stack.callback(rig.close)
        rig.start_netbackd()
        yield rig
        if rig.netbackd is not None:
            rig.stop_netbackd()


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
