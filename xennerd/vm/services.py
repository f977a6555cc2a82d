# SPDX-License-Identifier: GPL-2.0-or-later
"""The services that a domain uses: evtchnd and xenstore."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import trio

from xenner import abi
from xenner.errors import HostError
from xenner.evtchn import Evtchnd, EvtchndError
from xenner.reconnecting import keep_connected
from xenner.types import Domid, ShutdownReason
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.nodes.device import device_nodes
from xennerd.nodes.guest import (
    Guest,
    Node,
    all_paths,
    domain_path,
    guest_nodes,
)
from xennerd.nodes.writing import replace_nodes
from xennerd.vm.blockinfo import NODES
from xennerd.vm.channels import GuestChannels, Notifier

_log = logging.getLogger("xenner")

_SHUTDOWN = "control/shutdown"


@dataclass(slots=True)
class DomainServices:
    """Two connections to evtchnd: `host` acts for domain 0, `guest` for the
    domain.

    `store` is xenstore's socket. Each call makes a connection, so that the
    store may restart between calls. The calls are those of store/guest.py.
    """

    domid: Domid
    host: Evtchnd
    guest: Evtchnd
    store: Path | None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def keep_connected(self) -> None:
        """Register the guest again whenever evtchnd restarts, until
        cancelled."""
        async with trio.open_nursery() as nursery:
            for handle in (self.host, self.guest):
                nursery.start_soon(keep_connected, handle)

    def start_channels(
        self, vm: Notifier, *, vmcore_fd: int, event_fd: int
    ) -> GuestChannels:
        """Attach the guest's memory. The guest starts without ports."""
        # A new open file (proc_pid_fd(5)) without our lock: evtchnd may keep it
        # longer than we live, and the lock says that we live.
        fd = os.open(f"/proc/self/fd/{vmcore_fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.guest.attach(
                vmcore_fd=fd,
                pending_gpa=abi.EMU_PENDING_GPA,
                event_fd=event_fd,
            )
        finally:
            os.close(fd)
        return GuestChannels(self.guest, vm, lock=self._lock, domid=self.domid)

    @contextmanager
    def introduced(self, guest: Guest) -> Iterator[None]:
        """Write the guest's nodes and introduce it; undo both after the
        block."""
        path = self.store
        if path is None:
            yield
            return
        try:
            _introduce(path, guest)
            yield
        finally:
            try:
                _forget(path, guest)
            except (OSError, HostError, XenstoreError) as error:
                _log.warning("xenstore has nodes of a guest left: %s", error)

    def request_shutdown(self, request: str) -> None:
        with self._connected() as store:
            store.write(self._node(_SHUTDOWN), request)

    def is_request_watched(self) -> bool:
        """Unknown here, so yes: only the store knows the watches."""
        return True

    def is_request_taken(self) -> bool:
        with self._connected() as store:
            return not store.find(self._node(_SHUTDOWN))

    def set_memory_target(self, kib: int) -> None:
        with self._connected() as store:
            store.write(self._node("memory/target"), str(kib))

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        """Of each those of blockinfo.NODES that its backend has. Domain 0's
        own nodes alone: what the guest says of its disks is not believed."""
        with self._connected() as store:
            found = {}
            for kind in ("vbd", "qdisk"):
                top = f"/local/domain/0/backend/{kind}/{self.domid}"
                for devid in store.directory(top):
                    if devid.isdecimal():
                        nodes = _read_all(store, f"{top}/{devid}")
                        found[int(devid)] = nodes
            return found

    def _node(self, name: str) -> str:
        return f"{domain_path(self.domid)}/{name}"

    @contextmanager
    def _connected(self) -> Iterator[Xenstore]:
        if self.store is None:
            raise HostError("there is no xenstore to ask the guest through")
        try:
            with Xenstore(self.store) as store:
                yield store
        except (OSError, XenstoreError) as error:
            raise HostError(f"xenstore: {error}") from error

    def notify_shutdown(self, reason: ShutdownReason) -> None:
        """Tell evtchnd that the domain ended; watchers of domains learn of
        it."""
        self.host.shut_down(self.domid, reason)


def _read_all(store: Xenstore, backend: str) -> dict[str, str]:
    """A vbd's nodes of its backend, without those that are missing."""
    nodes = {}
    for name in NODES:
        with suppress(XenstoreError):
            nodes[name] = store.read(f"{backend}/{name}")
    return nodes


def _introduce(path: Path, guest: Guest) -> None:
    try:
        with Xenstore(path) as store:
            nodes = chain(guest_nodes(guest), _devices(guest))
            replace_nodes(store, all_paths(guest), nodes)
            store.introduce(guest.domid, guest.store_mfn, guest.store_port)
    except XenstoreError as error:
        raise HostError(
            f"xenstore does not take domain {guest.domid}: {error}"
        ) from error


def _forget(path: Path, guest: Guest) -> None:
    with Xenstore(path) as store:
        with suppress(XenstoreError):
            store.release(guest.domid)
        for node in all_paths(guest):
            store.remove(node)


def _unregister(host: Evtchnd, domid: Domid) -> None:
    """Unregister; without an evtchnd there is nothing to do."""
    try:
        host.unregister(domid)
    except OSError as error:
        _log.warning("evtchnd cannot be told of the end: %s", error.strerror)


def _devices(guest: Guest) -> Iterator[Node]:
    return device_nodes(
        guest.domid, disks=guest.disks, vifs=guest.vifs, handle=guest.handle
    )


@contextmanager
def open_domain_services(
    path: Path,
    domid: Domid,
    *,
    xenstore: Path | None,
    nr_vcpus: int,
    nr_pages: int,
    handle: bytes,
) -> Iterator[DomainServices]:
    """Register the domain, with this process, at the evtchnd at `path`.

    HostError: evtchnd or xenstore does not answer, or refuses.
    """
    with ExitStack() as stack:
        host = stack.enter_context(Evtchnd(path))
        pidfd = os.pidfd_open(os.getpid())
        stack.callback(os.close, pidfd)
        try:
            host.register(
                domid,
                pidfd=pidfd,
                nr_ports=abi.EVTCHND_GUEST_PORTS,
                nr_vcpus=nr_vcpus,
                nr_pages=nr_pages,
                handle=handle,
            )
        except EvtchndError as error:
            raise HostError(
                f"evtchnd does not take domain {domid}: {error.strerror}"
            ) from error
        stack.callback(_unregister, host, domid)
        if xenstore is not None:
            with Xenstore(xenstore):
                pass  # Fail now, not halfway.
        guest = stack.enter_context(Evtchnd(path, launcher=host))
        yield DomainServices(domid, host, guest, xenstore)
