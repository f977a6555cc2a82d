# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's place among others: known to evtchnd, to xenstore."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from xenner import abi
from xenner.errors import HostError
from xenner.evtchn import Evtchnd, EvtchndError
from xenner.types import Domid, ShutdownReason
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.guestnodes import Guest, all_paths, guest_nodes
from xennerd.vm.channels import GuestChannels, Notifier

_log = logging.getLogger("xenner")


@dataclass(slots=True)
class Outside:
    """Two connections: `host` acts for domain 0, `guest` for the domain."""

    domid: Domid
    host: Evtchnd
    guest: Evtchnd
    store: Xenstore | None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start_channels(
        self, vm: Notifier, *, vmcore_fd: int, event_fd: int
    ) -> GuestChannels:
        """The guest's ports from a start of day on: none yet."""
        self.guest.attach(
            vmcore_fd=vmcore_fd,
            pending_gpa=abi.EMU_PENDING_GPA,
            event_fd=event_fd,
        )
        return GuestChannels(self.guest, vm, lock=self._lock, domid=self.domid)

    @contextmanager
    def introduced(self, guest: Guest) -> Iterator[None]:
        """The guest has its nodes in xenstore and its ring is served."""
        store = self.store
        if store is None:
            yield
            return
        try:
            _write_nodes(store, guest)
            store.introduce(guest.domid, guest.store_mfn, guest.store_port)
            yield
        finally:
            try:
                with suppress(XenstoreError):
                    store.release(guest.domid)
                for path in all_paths(guest):
                    store.remove(path)
            except (OSError, HostError) as error:
                _log.warning("xenstore has nodes of a guest left: %s", error)

    def tell_end(self, reason: ShutdownReason) -> None:
        """The domain has ended by itself; who watches domains hears of it."""
        self.host.shut_down(self.domid, reason)


def _write_nodes(store: Xenstore, guest: Guest) -> None:
    """All of them at once: nobody sees half a guest."""
    while True:
        tx = store.start_transaction()
        for path in all_paths(guest):
            store.remove(path, tx=tx)
        for node in guest_nodes(guest):
            store.write(node.path, node.value, tx=tx)
            store.set_perms(node.path, *node.perms, tx=tx)
        if store.end_transaction(tx, commits=True):
            return


@contextmanager
def enter_outside(
    path: Path,
    domid: Domid,
    *,
    xenstore: Path | None,
    nr_vcpus: int,
    nr_pages: int,
    handle: bytes,
) -> Iterator[Outside]:
    """Make the domain known to the evtchnd at `path`, this process its own.

    Raises HostError if evtchnd is not there or does not let us.
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
        stack.callback(host.unregister, domid)
        store = None
        if xenstore is not None:
            store = stack.enter_context(Xenstore(xenstore))
        yield Outside(domid, host, stack.enter_context(Evtchnd(path)), store)
