# SPDX-License-Identifier: GPL-2.0-or-later
"""A real blkbackd, and frontends without guests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.component.backend import (
    BackendRig,
    FrontendProcess,
    build_program,
    open_store,
    register,
)
from tests.component.blkbackd.xenqemu import qemu_environment
from tests.component.evtchnd.daemon import open_daemon
from xenner.xenbus import XenbusState
from xenner.xenstore import Xenstore

HERE = Path(__file__).resolve().parent
DEVICE = 51712  # xvda


def build_frontend(directory: Path) -> Path:
    """The program of frontend*.c."""
    return build_program(HERE, directory)


@dataclass
class Frontend(FrontendProcess):
    """A domain with one disk."""

    port: int = 0
    kind: str = "vbd"

    @property
    def backend(self) -> str:
        return f"/local/domain/0/backend/{self.kind}/{self.domid}/{DEVICE}"

    @property
    def path(self) -> str:
        return f"/local/domain/{self.domid}/device/vbd/{DEVICE}"

    def plug(self, disk: Path, mode: str = "w", **nodes: object) -> None:
        """Write what libxl writes for a disk."""
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
        self.write_nodes(values)

    def plug_qdisk(self, kind: str, image: Path) -> None:
        """The same for one that QEMU is to serve."""
        self.kind = "qdisk"
        self.rig.store.write(f"{self.path}/virtual-device", str(DEVICE))
        self.plug(Path(f"{kind}:{image}"), type="qdisk")

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


class Rig(BackendRig):
    """What is running."""

    daemon = "blkbackd"

    def environment(self) -> dict[str, str]:
        return qemu_environment(super().environment())

    def start_frontend(self, domid: int) -> Frontend:
        """A domain, with nothing in xenstore yet."""
        return register(Frontend(self, domid, self.start_process(domid)))


@contextmanager
def open_rig(directory: Path, program: Path) -> Iterator[Rig]:
    """All but frontends."""
    with (
        open_daemon(directory) as evtchnd,
        open_store(directory),
        Xenstore(directory / "xenstore") as store,
    ):
        rig = Rig(directory, evtchnd, store, program)
        rig.start_backend()
        try:
            yield rig
            if rig.backend is not None:
                rig.stop_backend()
        finally:
            rig.close()
