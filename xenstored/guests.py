# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests' rings: the page is in the guest's vmcore, the event channel is
evtchnd's."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import ExitStack
from pathlib import Path

from xenner import abi
from xenner.evtchn import Evtchnd
from xenner.paths import vmcore_path
from xenner.pending import MappedPending
from xenner.types import Domid, Port
from xenner.vmcorelocks import hold_pages, is_owned
from xenstored.ports import RingAbsentError, RingLink
from xenstored.ringpage import PAGE_BYTES
from xenstored.store import Domain


class Guests:
    """Opens rings of domains whose vmcores are in `runtime_dir`."""

    def __init__(self, evtchnd: Evtchnd, runtime_dir: Path) -> None:
        self.evtchnd = evtchnd
        self._runtime_dir = runtime_dir
        # Which evtchnd knew a domain last: a restarted one learns of a domain
        # again when that domain's process reconnects.
        self._known: dict[int, int] = {}

    def query_running(self, domid: Domid) -> bool | None:
        """Ask evtchnd for the domain's state, and note that it knows it.

        False: the domain has shut down. None: evtchnd does not know it.
        OSError: evtchnd is not there.
        """
        nr_reconnects = self.evtchnd.nr_reconnects
        domain = self.evtchnd.domain(domid)
        if domain is None:
            return None
        self._known[domid] = nr_reconnects
        return not domain.flags & abi.EVTCHND_DOMAIN_SHUTDOWN

    def is_gone(self, domid: Domid) -> bool:
        """Has it ended, and is not just unknown to a restarted evtchnd? Asked
        after query_running() returned None."""
        was_known = self._known.get(domid) == self.evtchnd.nr_reconnects
        return was_known or not is_owned(self._vmcore(domid))

    def open_ring(self, domain: Domain) -> RingLink:
        """The ring of a domain that is introduced.

        OSError: there is no such domain, page or port. RingAbsentError: it
        lives, and evtchnd does not know it (yet).
        """
        try:
            return self._open_ring(domain)
        except OSError as error:
            if error.errno == errno.ESRCH and is_owned(
                self._vmcore(domain.domid)
            ):
                raise RingAbsentError(error.errno, error.strerror) from error
            raise

    def _open_ring(self, domain: Domain) -> RingLink:
        with ExitStack() as stack:
            page = self._map_page(domain.domid, domain.gfn)
            stack.callback(page.close)
            channel = self.evtchnd.bind_interdomain(
                Domid(domain.domid), Port(domain.port)
            )
            stack.callback(self.evtchnd.drop_port, channel.port)
            for fd in (channel.in_fd, channel.out_fd):
                stack.callback(os.close, fd)
            pending = MappedPending(
                channel.page_fd, channel.page_offset, channel.doorbell_fd
            )
            stack.callback(pending.close)
            self._known[domain.domid] = self.evtchnd.nr_reconnects
            view = memoryview(page)
            stack.callback(view.release)
            opened = stack.pop_all()
        peer_port = channel.remote_port
        return RingLink(
            page=view,
            kick_fd=channel.in_fd,
            notify=lambda: pending.notify(peer_port),
            close=opened.close,
        )

    def _map_page(self, domid: int, gfn: int) -> mmap.mmap:
        path = self._vmcore(domid)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # ValueError, were it not asked for first: past the file's end.
            size_bytes = os.fstat(fd).st_size
            if not 0 < gfn < size_bytes // PAGE_BYTES:
                raise OSError(errno.EINVAL, f"page {gfn:#x} is not in {path}")
            hold_pages(fd, gfn * PAGE_BYTES, PAGE_BYTES)
            return mmap.mmap(fd, PAGE_BYTES, offset=gfn * PAGE_BYTES)
        finally:
            os.close(fd)

    def _vmcore(self, domid: int) -> Path:
        return vmcore_path(self._runtime_dir, Domid(domid))
