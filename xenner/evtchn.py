# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of evtchnd: docs/evtchn.md has the protocol, abi/wire.h the form.

A connection is one handle. evtchnd tells from the process which domain it acts
for: a registered VM process for its guest, any other for the host.

A restarted evtchnd has no state. Its channels work on by themselves; a handle
that finds its connection lost connects again and restores its own state
(restore_state.py) before it repeats its request.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenner import abi
from xenner.abi import ffi
from xenner.errors import HostError
from xenner.restore_state import RestoreState
from xenner.types import Domid, Port

_REPLY_BYTES = abi.sizeof("evtchnd_reply")
# What the descriptors of a reply are, in the order in which they come.
_FDS = (
    abi.EVTCHND_FD_IN,
    abi.EVTCHND_FD_OUT,
    abi.EVTCHND_FD_PAGE,
    abi.EVTCHND_FD_DOORBELL,
)
# evtchnd answers at once, or is started by our connecting; one that does not
# is broken, and so would we be.
_LIMIT_S = 30.0
# How long a call waits for an evtchnd that is being restarted.
_PATIENCE_S = 3.0
_RETRY_S = 0.05
_tags = count(1)


class EvtchndError(OSError):
    """evtchnd refused; errno is Xen's where Xen has the case."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One end of a channel, as evtchnd answers for it.

    `in_fd` becomes readable when the other side rings; `out_fd` rings it
    (-1: there is none). Where the peer is a guest with its memory attached,
    `page_fd` is that memory, its struct emu_pending at `page_offset` bytes,
    and `doorbell_fd` what to write after setting a bit there. The descriptors
    are the caller's to close.
    """

    port: Port
    remote_domid: Domid
    remote_port: Port
    in_fd: int
    out_fd: int
    page_fd: int
    page_offset: int
    doorbell_fd: int

    def close(self) -> None:
        """Close the descriptors; the port stays."""
        fds = {self.in_fd, self.out_fd, self.page_fd, self.doorbell_fd}
        for fd in fds - {-1}:
            os.close(fd)


class Evtchnd:
    """A connection to evtchnd. Calls block, for a moment; any thread may."""

    def __init__(self, path: Path, *, launcher: Evtchnd | None = None) -> None:
        """HostError if nobody listens there or refuses us.

        `launcher` is the handle that has registered this process's domain,
        and must do so again before this one is that domain's once more.
        """
        self._path = path
        self._launcher = launcher
        self._lock = threading.RLock()
        self._restore_state = RestoreState()
        self._lost: list[socket.socket] = []
        self._connecting: socket.socket | None = None
        self._is_closed = False
        self.nr_reconnects = 0
        """How many evtchnds there were after the first."""
        try:
            self._socket, self._domid = self._connect()
        except OSError as error:
            raise HostError(
                f"evtchnd at {path}: {error.strerror or error}; is it running?"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the ports of a host's handle close with it."""
        self.give_up()
        with self._lock:
            for each in (self._socket, *self._lost):
                each.close()
            self._restore_state.close()

    def give_up(self) -> None:
        """Calls fail from now on, OSError, also those that other threads are
        in: an evtchnd that does not answer keeps nobody from ending."""
        self._is_closed = True
        # A thread that waits has the lock.
        for waited_for in (self._connecting, self._socket):
            if waited_for is not None:
                with suppress(OSError):
                    waited_for.shutdown(socket.SHUT_RDWR)

    def fileno(self) -> int:
        """Becomes readable when the connection is lost: then call
        reconnect_if_lost()."""
        return self._socket.fileno()

    def reconnect_if_lost(self) -> None:
        """Connect again if the connection is lost.

        OSError if there is no evtchnd for some seconds; the caller may retry.
        """
        with self._lock:
            while self._lost:
                self._lost.pop().close()
            if _is_at_end(self._socket):
                self._reconnect()

    def register(
        self,
        domid: Domid,
        *,
        pidfd: int,
        nr_ports: int,
        nr_vcpus: int,
        nr_pages: int,
        handle: bytes,
    ) -> None:
        """Make a domain known, `pidfd` its VM process. Launchers only."""
        domain = {
            "domid": domid,
            "nr_ports": nr_ports,
            "nr_vcpus": nr_vcpus,
            "nr_pages": nr_pages,
            "handle": handle,
        }
        with self._lock:
            self._call(abi.EVTCHND_REGISTER, fds=[pidfd], domain=domain)
            self._restore_state.register(domain, pidfd)

    def unregister(self, domid: Domid) -> None:
        """Forget a domain and all its ports. Launchers only."""
        with self._lock:
            self._restore_state.unregister(domid)
            self._call(abi.EVTCHND_UNREGISTER, dom=domid)

    def shut_down(self, domid: Domid, reason: int) -> None:
        """A domain has ended by itself (SHUTDOWN_* of xen/sched.h)."""
        self._call(abi.EVTCHND_SHUTDOWN, dom=domid, value=(reason, 0))

    def attach(
        self, *, vmcore_fd: int, pending_gpa: int, event_fd: int
    ) -> None:
        """A VM process: where its guest's struct emu_pending is, and what to
        write after setting a bit there."""
        fds = [vmcore_fd, event_fd]
        with self._lock:
            self._call(abi.EVTCHND_ATTACH, fds=fds, value=(pending_gpa, 0))
            self._restore_state.attach(pending_gpa, fds)

    def alloc_unbound(
        self, remote: Domid, *, domid: int = abi.EVTCHND_SELF
    ) -> Channel:
        """A port that `remote` may bind, in our domain or for another one."""
        return self._channel(
            abi.EVTCHND_ALLOC_UNBOUND, dom=domid, remote_dom=remote
        )

    def bind_interdomain(self, remote: Domid, remote_port: Port) -> Channel:
        """Our end of a channel whose other end `remote` has allocated."""
        return self._channel(
            abi.EVTCHND_BIND_INTERDOMAIN,
            remote_dom=remote,
            remote_port=remote_port,
        )

    def bind_virq(self, virq: int, *, vcpu: int = 0) -> Channel:
        """A port for a VIRQ_* of xen/xen.h."""
        return self._channel(abi.EVTCHND_BIND_VIRQ, virq=virq, vcpu=vcpu)

    def bind_ipi(self, vcpu: int) -> Channel:
        """A port by which vCPUs of one domain reach this one."""
        return self._channel(abi.EVTCHND_BIND_IPI, vcpu=vcpu)

    def bind_vcpu(self, port: Port, vcpu: int) -> None:
        """Have a port's events go to another vCPU."""
        with self._lock:
            self._call(abi.EVTCHND_BIND_VCPU, port=port, vcpu=vcpu)
            self._restore_state.set_vcpu(port, vcpu)

    def close_port(self, port: Port) -> None:
        """Close a port; its peer, if any, is unbound again."""
        with self._lock:
            self._call(abi.EVTCHND_CLOSE, port=port)
            self._restore_state.remove_port(port)

    def drop_port(self, port: Port) -> None:
        """Close a port of which nobody will ask again: an evtchnd that cannot
        be told does not hear of it when it is back."""
        with self._lock:
            with suppress(OSError):
                self.close_port(port)
            self._restore_state.remove_port(port)

    def reset(self) -> None:
        """Close all our ports."""
        with self._lock:
            self._call(abi.EVTCHND_RESET, dom=abi.EVTCHND_SELF)
            self._restore_state.remove_ports()

    def status(self, port: Port, *, domid: int = abi.EVTCHND_SELF) -> Any:
        """What a port is: a struct evtchnd_reply."""
        reply, _ = self._call(abi.EVTCHND_STATUS, dom=domid, port=port)
        return reply

    def domids(self) -> list[Domid]:
        """The domains that are registered, in order; the host is not one."""
        found: list[Domid] = []
        try:
            while True:
                after = found[-1] + 1 if found else 1
                reply, _ = self._call(abi.EVTCHND_DOMAIN_INFO, dom=after)
                found.append(Domid(reply.domain.domid))
        except EvtchndError as error:
            if error.errno != errno.ESRCH:
                raise
        return found

    def domain(self, domid: Domid) -> Any | None:
        """A struct evtchnd_domain; None: none of that number is registered."""
        try:
            reply, _ = self._call(abi.EVTCHND_DOMAIN_INFO, dom=domid)
        except EvtchndError as error:
            if error.errno != errno.ESRCH:
                raise
            return None
        # It is the first from there on.
        return reply.domain if reply.domain.domid == domid else None

    def _channel(self, kind: int, **fields: Any) -> Channel:
        with self._lock:
            reply, fds = self._call(kind, **fields)
            if reply.dom == self._domid:
                # in and out come first.
                self._restore_state.add_port(reply, fds[:2])
        found = dict.fromkeys(_FDS, -1)
        for flag, fd in zip(
            (flag for flag in _FDS if reply.fds & flag), fds, strict=True
        ):
            found[flag] = fd
        return Channel(
            port=Port(reply.port),
            remote_domid=Domid(reply.remote_dom),
            remote_port=Port(reply.remote_port),
            in_fd=found[abi.EVTCHND_FD_IN],
            out_fd=found[abi.EVTCHND_FD_OUT],
            page_fd=found[abi.EVTCHND_FD_PAGE],
            page_offset=reply.page_offset,
            doorbell_fd=found[abi.EVTCHND_FD_DOORBELL],
        )

    def _call(
        self, kind: int, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[Any, list[int]]:
        """One request and its reply. EvtchndError with the reply's errno."""
        with self._lock:
            try:
                return _exchange(self._socket, kind, fds, fields)
            except ConnectionError:
                self._reconnect()
                return _exchange(self._socket, kind, fds, fields)

    def _connect(self) -> tuple[socket.socket, int]:
        """A new connection, and whose evtchnd says it is."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            made.settimeout(_LIMIT_S)
            made.connect(str(self._path))
            # In this order: close() sees the one, or we see the other.
            self._connecting = made
            self._check_open()
            hello = {"value": (abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION)}
            reply, fds = _exchange(made, abi.EVTCHND_HELLO, (), hello)
        except BaseException:
            made.close()
            raise
        finally:
            self._connecting = None
        for fd in fds:
            os.close(fd)  # The page is for senders that set bits.
        return made, reply.dom

    def _check_open(self) -> None:
        if self._is_closed:
            raise EvtchndError(errno.EBADF, "the handle is closed")

    def _reconnect(self) -> None:
        """Connect again, restore the state. OSError: no evtchnd answers."""
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            self._check_open()
            try:
                if self._launcher is not None:
                    self._launcher.reconnect_if_lost()
                made, domid = self._connect()
                break
            except (ConnectionError, FileNotFoundError):
                if time.monotonic() > until_s:
                    raise
            time.sleep(_RETRY_S)
        if domid != self._domid:
            made.close()
            raise EvtchndError(errno.EPERM, f"evtchnd takes us for {domid}")
        # A thread that waits for the old one finds it readable.
        self._lost.append(self._socket)
        self._socket = made
        self.nr_reconnects += 1
        for kind, fds, fields in self._restore_state.requests():
            # Refused: another handle was faster. The channel works even so.
            with suppress(EvtchndError):
                _, got = _exchange(made, kind, fds, fields)
                for fd in got:
                    os.close(fd)
        self._restore_state.ring_virqs()


def _exchange(
    to: socket.socket, kind: int, fds: Sequence[int], fields: dict[str, Any]
) -> tuple[Any, list[int]]:
    """One request and its reply, with its descriptors.

    TimeoutError: there is none for _LIMIT_S. It may come yet: then the next
    call finds it by its tag, and lets go of it.
    """
    request = ffi.new("struct evtchnd_request *")
    request.type = kind
    request.tag = next(_tags) & 0xFFFFFFFF
    request.dom = abi.EVTCHND_SELF
    for name, value in fields.items():
        setattr(request, name, value)
    socket.send_fds(to, [bytes(ffi.buffer(request))], fds)
    reply, got = _receive(to)
    while reply.tag != request.tag:
        for fd in got:
            os.close(fd)
        reply, got = _receive(to)
    if reply.error:
        raise EvtchndError(reply.error, os.strerror(reply.error))
    return reply, got


def _receive(from_: socket.socket) -> tuple[Any, list[int]]:
    space = socket.CMSG_SPACE(abi.EVTCHND_MAX_FDS * 4)
    data, ancillary, _, _ = from_.recvmsg(
        _REPLY_BYTES, space, socket.MSG_CMSG_CLOEXEC
    )
    got = _descriptors(ancillary)
    if len(data) != _REPLY_BYTES:
        for fd in got:
            os.close(fd)
        raise ConnectionResetError("evtchnd closed the connection")
    reply = ffi.new("struct evtchnd_reply *")
    ffi.memmove(reply, data, _REPLY_BYTES)
    return reply, got


def _is_at_end(connection: socket.socket) -> bool:
    """Nobody is on the other side. No reply may be waited for: one that came
    too late is let go of."""
    ready = select.poll()
    ready.register(connection, select.POLLIN)
    while ready.poll(0):
        try:
            _reply, got = _receive(connection)
        except OSError:
            return True
        for fd in got:
            os.close(fd)
    return False


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
