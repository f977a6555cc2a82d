# SPDX-License-Identifier: GPL-2.0-or-later
"""A real netbackd in a network namespace, and frontends without guests."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.backend import (
    BackendRig,
    FrontendProcess,
    build_program,
    open_store,
    register,
)
from tests.support.evtchnd import LIMIT_S, open_daemon
from tests.support.net.namespace import Namespace, open_namespace
from xenner.xenbus import XenbusState
from xenner.xenstore import Xenstore

HERE = Path(__file__).resolve().parent
FEATURES = (
    *("feature-rx-notify", "feature-sg", "feature-gso-tcpv4"),
    *("feature-gso-tcpv6", "feature-ipv6-csum-offload", "request-rx-copy"),
)
# Pages of the rings: frontend.h.
_FIRST_REF = 8


def build_frontend(directory: Path) -> Path:
    """The program of frontend*.c."""
    return build_program(HERE, directory)


@dataclass
class Frontend(FrontendProcess):
    """A domain with one vif."""

    net: Namespace = field(kw_only=True)
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

    def plug(self, **nodes: object) -> None:
        """Write what libxl writes for a vif."""
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
        self.write_nodes(values)

    def connect(
        self,
        *,
        nr_queues: int = 1,
        is_split: bool | Sequence[bool] = True,
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        """As a frontend's driver: rings, their nodes, and until both are 4."""
        self.wait_backend(XenbusState.INIT_WAIT)
        self.publish(nr_queues, is_split=is_split, features=features)
        self.wait_backend(XenbusState.CONNECTED)
        self.wait_carrier()

    def publish(
        self,
        nr_queues: int,
        *,
        is_split: bool | Sequence[bool] = True,
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        """Rings and their nodes. `is_split` may be said for each queue."""
        store = self.rig.store
        if isinstance(is_split, bool):
            is_split = [is_split] * nr_queues
        mask = sum(1 << i for i, value in enumerate(is_split) if value)
        said = self.ask(f"open {nr_queues} {mask}")
        self.nr_queues = nr_queues
        if nr_queues > 1:
            store.write(f"{self.path}/multi-queue-num-queues", str(nr_queues))
        for i, ports in enumerate(said.removeprefix("ports=").split(",")[:-1]):
            tx_port, rx_port = ports.split(":")
            top = f"{self.path}/queue-{i}" if nr_queues > 1 else self.path
            store.write(f"{top}/tx-ring-ref", str(_FIRST_REF + 2 * i))
            store.write(f"{top}/rx-ring-ref", str(_FIRST_REF + 2 * i + 1))
            if is_split[i]:
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
        said = self.net.ip(f"-o link show {self.tap}")
        return "LOWER_UP" in said

    def leave(self) -> None:
        """As libxl unplugs it, and until that is done."""
        self.rig.store.write(f"{self.backend}/online", "0")
        self.rig.store.write(f"{self.backend}/state", "5")
        self.set_state(XenbusState.CLOSED)
        self.wait_backend(XenbusState.CLOSED)

    def unplug(self) -> None:
        """Likewise, and its nodes are gone."""
        self.leave()
        self.rig.store.remove(self.backend)


@dataclass
class Rig(BackendRig):
    """What is running."""

    daemon = "netbackd"

    net: Namespace = field(kw_only=True)
    # What the backend's command line begins with.
    prefix: Sequence[str] = ()

    def command(self, *words: str) -> Sequence[str]:
        return [*self.prefix, *self.net.command(*words)]

    def start_frontend(self, domid: int) -> Frontend:
        """A domain, with nothing in xenstore yet."""
        process = self.start_process(domid)
        return register(Frontend(self, domid, process, net=self.net))

    def taps(self) -> list[str]:
        """Names of the taps there are."""
        said = self.net.ip("-o link show type tun")
        return re.findall(r"^\d+: ([^:@]+)", said, re.M)


@contextmanager
def open_rig(
    directory: Path, program: Path, prefix: Sequence[str] = ()
) -> Iterator[Rig]:
    """All but frontends."""
    with ExitStack() as stack:
        net = stack.enter_context(open_namespace())
        evtchnd = stack.enter_context(open_daemon(directory))
        stack.enter_context(open_store(directory))
        store = stack.enter_context(Xenstore(directory / "xenstore"))
        rig = Rig(directory, evtchnd, store, program, net=net, prefix=prefix)
        stack.callback(rig.close)
        rig.start_backend()
        yield rig
        if rig.backend is not None:
            rig.stop_backend()
