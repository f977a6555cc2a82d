# SPDX-License-Identifier: GPL-2.0-or-later
"""A real blkbackd, and frontends without guests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.backend import (
    BackendRig,
    FrontendProcess,
    build_program,
    number,
    open_store,
    register,
)
from tests.support.blk.xenqemu import qemu_environment
from tests.support.evtchnd import open_daemon
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

    def connect(
        self, *, nr_pages: int = 1, bits: int = 64, nr_queues: int = 1
    ) -> None:
        """As a frontend's driver: a ring, or as many as it has queues, its
        nodes, and until both are 4."""
        self.wait_backend(XenbusState.INIT_WAIT)
        if nr_queues > 1:
            self.publish_queues(nr_queues, nr_pages=nr_pages, bits=bits)
        else:
            self.open_ring(nr_pages=nr_pages, bits=bits)
            self.publish(nr_pages=nr_pages, bits=bits)
        self.wait_backend(XenbusState.CONNECTED)
        self.set_state(XenbusState.CONNECTED)

    def open_ring(self, *, nr_pages: int = 1, bits: int = 64) -> int:
        """A fresh one and its channel; its first grant."""
        answer = self.ask(f"open {nr_pages} {bits}")
        self.port = int(number(answer, "port"))
        return int(number(answer, "ref"))

    def choose_queue(self, which: int) -> None:
        """What is asked from here on is that queue's."""
        assert self.ask(f"queue {which}") == f"queue={which}"

    def publish_queues(
        self, nr_queues: int, *, nr_pages: int = 1, bits: int = 64
    ) -> None:
        """Rings and nodes as Linux' frontend has them."""
        store = self.rig.store
        store.write(f"{self.path}/multi-queue-num-queues", str(nr_queues))
        for which in range(nr_queues):
            self.choose_queue(which)
            first = self.open_ring(nr_pages=nr_pages, bits=bits)
            self._write_refs(f"{self.path}/queue-{which}", first, nr_pages)
        self.choose_queue(0)
        self._tell(nr_pages=nr_pages, bits=bits)

    def publish(self, *, nr_pages: int = 1, bits: int = 64) -> None:
        self._write_refs(self.path, 8, nr_pages)
        self._tell(nr_pages=nr_pages, bits=bits)

    def _write_refs(self, path: str, first: int, nr_pages: int) -> None:
        store = self.rig.store
        if nr_pages == 1:
            store.write(f"{path}/ring-ref", str(first))
        else:
            for i in range(nr_pages):
                store.write(f"{path}/ring-ref{i}", str(first + i))
        store.write(f"{path}/event-channel", str(self.port))

    def _tell(self, *, nr_pages: int, bits: int) -> None:
        """What is all queues', and that it is there."""
        store = self.rig.store
        if nr_pages > 1:
            order = nr_pages.bit_length() - 1
            store.write(f"{self.path}/ring-page-order", str(order))
        if bits == 32:
            store.write(f"{self.path}/protocol", "x86_32-abi")
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
