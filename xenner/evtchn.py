# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of evtchnd: docs/evtchn.md has the protocol, abi/wire.h the form.

A connection is one handle. Whose it is evtchnd finds out from the process:
a VM process that was registered is its domain, others are the host.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenner import abi
from xenner.abi import ffi
from xenner.errors import HostError
from xenner.types import Domid, Port

_REPLY_BYTES = abi.sizeof("evtchnd_reply")
# What the descriptors of a reply are, in the order in which they come.
_FDS = (
    abi.EVTCHND_FD_IN,
    abi.EVTCHND_FD_OUT,
    abi.EVTCHND_FD_PAGE,
    abi.EVTCHND_FD_BELL,
)
# evtchnd answers at once, or is started by our connecting; one that does not
# is broken, and so would we be.
_LIMIT_S = 30.0


class EvtchndError(OSError):
    """evtchnd refused; errno is Xen's where Xen has the case."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One end of a channel, as evtchnd answers for it.

    `in_fd` becomes readable when the other side rings; `out_fd` rings it
    (-1: there is none). Where the peer is a guest with its memory attached,
    `page_fd` is that memory, its struct emu_pending at `page_offset` bytes,
    and `bell_fd` what to write after setting a bit there. The descriptors are
    the caller's to close.
    """

    port: Port
    remote_domid: Domid
    remote_port: Port
    in_fd: int
    out_fd: int
    page_fd: int
    page_offset: int
    bell_fd: int

    def close(self) -> None:
        """Close the descriptors; the port stays."""
        fds = {self.in_fd, self.out_fd, self.page_fd, self.bell_fd}
        for fd in fds - {-1}:
            os.close(fd)


class Evtchnd:
    """A connection to evtchnd. Calls block, for a moment."""

    def __init__(self, path: Path) -> None:
        """HostError if nobody listens there or refuses us."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as on_fail:
            on_fail.callback(self._socket.close)
            self._socket.settimeout(_LIMIT_S)
            try:
                self._socket.connect(str(path))
                hello = (abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION)
                _, fds = self._call(abi.EVTCHND_HELLO, value=hello)
            except OSError as error:
                raise HostError(
                    f"evtchnd at {path}: {error.strerror or error}; "
                    "is it running?"
                ) from error
            for fd in fds:
                os.close(fd)  # The page is for who sends by setting bits.
            on_fail.pop_all()

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
        self._socket.close()

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
        self._call(abi.EVTCHND_REGISTER, fds=[pidfd], domain=domain)

    def unregister(self, domid: Domid) -> None:
        """Forget a domain and all its ports. Launchers only."""
        self._call(abi.EVTCHND_UNREGISTER, dom=domid)

    def shut_down(self, domid: Domid, reason: int) -> None:
        """A domain has ended by itself (SHUTDOWN_* of xen/sched.h)."""
        self._call(abi.EVTCHND_SHUTDOWN, dom=domid, value=(reason, 0))

    def attach(
        self, *, vmcore_fd: int, pending_gpa: int, event_fd: int
    ) -> None:
        """A VM process: where its guest's struct emu_pending is, and what to
        write after setting a bit there."""
        self._call(
            abi.EVTCHND_ATTACH,
            fds=[vmcore_fd, event_fd],
            value=(pending_gpa, 0),
        )

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
        self._call(abi.EVTCHND_BIND_VCPU, port=port, vcpu=vcpu)

    def close_port(self, port: Port) -> None:
        """Close a port; its peer, if any, is unbound again."""
        self._call(abi.EVTCHND_CLOSE, port=port)

    def reset(self) -> None:
        """Close all our ports."""
        self._call(abi.EVTCHND_RESET, dom=abi.EVTCHND_SELF)

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

    def _channel(self, kind: int, **fields: Any) -> Channel:
        reply, fds = self._call(kind, **fields)
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
            bell_fd=found[abi.EVTCHND_FD_BELL],
        )

    def _call(
        self, kind: int, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[Any, list[int]]:
        """One request and its reply. EvtchndError with the reply's errno."""
        request = ffi.new("struct evtchnd_request *")
        request.type = kind
        request.dom = abi.EVTCHND_SELF
        for name, value in fields.items():
            setattr(request, name, value)
        socket.send_fds(self._socket, [bytes(ffi.buffer(request))], fds)
        space = socket.CMSG_SPACE(abi.EVTCHND_MAX_FDS * 4)
        data, ancillary, _, _ = self._socket.recvmsg(
            _REPLY_BYTES, space, socket.MSG_CMSG_CLOEXEC
        )
        got = _descriptors(ancillary)
        if len(data) != _REPLY_BYTES:
            for fd in got:
                os.close(fd)
            raise ConnectionResetError("evtchnd closed the connection")
        reply = ffi.new("struct evtchnd_reply *")
        ffi.memmove(reply, data, _REPLY_BYTES)
        if reply.error:
            raise EvtchndError(reply.error, os.strerror(reply.error))
        return reply, got


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
