# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's event channels to the outside: what emu asks for is asked of
evtchnd, and what evtchnd answers is told to KVM.

Python hears of ports that come and go. Events pass it by: the guest's `out`
is an ioeventfd for each port, and who notifies the guest sets a bit in its
memory and writes the irqfd.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Protocol

import trio

from xenner import abi
from xenner.errors import HostError
from xenner.evtchn import Channel, Evtchnd
from xenner.types import Domid, Port
from xennerd.vm._vcpu import ffi

# EVTCHNOP_* and their structures, of xen/event_channel.h.
_BIND_INTERDOMAIN = 0
_BIND_VIRQ = 1
_CLOSE = 3
_STATUS = 5
_ALLOC_UNBOUND = 6
_BIND_IPI = 7
_BIND_VCPU = 8
_RESET = 10
_ARGUMENT = {
    _BIND_INTERDOMAIN: struct.Struct("<HxxII"),  # remote dom, port; ours
    _BIND_VIRQ: struct.Struct("<III"),  # virq, vcpu, port
    _CLOSE: struct.Struct("<I"),
    _STATUS: struct.Struct("<HxxIIIII"),  # dom, port; state, vcpu, union
    _ALLOC_UNBOUND: struct.Struct("<HHI"),  # dom, remote dom, port
    _BIND_IPI: struct.Struct("<II"),  # vcpu, port
    _BIND_VCPU: struct.Struct("<II"),  # port, vcpu
    _RESET: struct.Struct("<H"),
}
# EVTCHNSTAT_*, of the same header.
_UNBOUND, _INTERDOMAIN, _VIRQ = 1, 2, 4


class Notifier(Protocol):
    """What this room needs of xennerd.vm.kvm.Vm."""

    def ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """An `out` of `value` to I/O port `port` signals the eventfd."""

    def remove_ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """It does no longer."""


class GuestChannels:
    """The ports of one domain, from a start of day to the guest's end.

    perform() is called by the vCPUs' threads, one at a time each; two may
    call at once, and evtchnd's connection is one: hence the lock.
    """

    def __init__(
        self, evtchnd: Evtchnd, vm: Notifier, *, lock: Any, domid: Domid
    ) -> None:
        self._evtchnd = evtchnd
        self._vm = vm
        self._lock = lock
        self._domid = domid
        # What the guest rings, and what others ring for it.
        self._rung: dict[Port, int] = {}
        self._heard: dict[Port, int] = {}
        self._ports: dict[int, Port] = {}
        self._epoll = select.epoll()
        self._operations: dict[int, Callable[..., tuple[int, ...]]] = {
            _BIND_INTERDOMAIN: self._bind_interdomain,
            _BIND_VIRQ: self._bind_virq,
            _CLOSE: self._close,
            _STATUS: self._status,
            _ALLOC_UNBOUND: self._alloc_unbound,
            _BIND_IPI: self._bind_ipi,
            _BIND_VCPU: self._bind_vcpu,
            _RESET: self._reset,
        }

    def perform(self, request: Any) -> None:
        """Answer a struct emu_request of EMU_REQUEST_EVTCHN in place.

        The request is guest memory: it is copied, checked, and the result is
        0 or one of Xen's errors, negative.
        """
        cmd, length = int(request.arg[0]), int(request.length)
        form = _ARGUMENT.get(cmd)
        if form is None or length < form.size or length > len(request.data):
            request.result = -errno.EINVAL
            return
        data = bytes(ffi.buffer(request.data, form.size))
        try:
            with self._lock:
                answer = self._operations[cmd](*form.unpack(data))
        except OSError as error:
            # evtchnd's errors are Xen's, which have Linux's numbers.
            request.result = -(error.errno or errno.EINVAL)
            return
        packed = form.pack(*answer)
        ffi.memmove(request.data, packed, len(packed))
        request.result = 0

    def open_unbound(self) -> Port:
        """A port of the guest's for domain 0, made before the start."""
        return self._keep(self._evtchnd.alloc_unbound(Domid(0)))

    async def serve_doorbells(self, notify: Callable[[Port], None]) -> None:
        """Pass on events from those who cannot set the guest's bits
        themselves: other guests."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            with self._lock:
                for fd, _ in self._epoll.poll(0):
                    with suppress(BlockingIOError):
                        os.eventfd_read(fd)
                    notify(self._ports[fd])

    def close(self) -> None:
        """The guest has ended: all its ports close."""
        with self._lock, suppress(OSError):
            # Without evtchnd there is nobody who has them.
            self._close_all()
        self._epoll.close()

    def _close_all(self) -> None:
        with ExitStack() as stack:
            for port in {*self._rung, *self._heard}:
                stack.callback(self._forget, port)
            self._evtchnd.reset()

    def _keep(self, channel: Channel) -> Port:
        """What the guest sends to this port rings the other side."""
        with ExitStack() as stack:
            stack.callback(channel.close)
            if channel.in_fd >= 0:
                self._hear(channel.port, channel.in_fd)
            if channel.out_fd < 0:
                return channel.port
            try:
                self._vm.ioeventfd(
                    channel.out_fd, abi.EMU_PORT_NOTIFY, channel.port
                )
            except HostError as error:
                # KVM has room for 1000 of them.
                self._forget(channel.port)
                self._evtchnd.drop_port(channel.port)
                raise OSError(errno.ENOSPC, str(error)) from error
            # KVM wants to see it again when it is to let go.
            self._rung[channel.port] = os.dup(channel.out_fd)
        return channel.port

    def _hear(self, port: Port, fd: int) -> None:
        own = self._heard[port] = os.dup(fd)
        self._ports[own] = port
        self._epoll.register(own, select.EPOLLIN)

    def _forget(self, port: Port) -> None:
        fd = self._heard.pop(port, None)
        if fd is not None:
            del self._ports[fd]
            self._epoll.unregister(fd)
            os.close(fd)
        fd = self._rung.pop(port, None)
        if fd is not None:
            self._vm.remove_ioeventfd(fd, abi.EMU_PORT_NOTIFY, port)
            os.close(fd)

    def _alloc_unbound(
        self, dom: int, remote_dom: int, _port: int
    ) -> tuple[int, ...]:
        remote = self._named(remote_dom)
        channel = self._evtchnd.alloc_unbound(remote, domid=dom)
        return dom, remote, self._keep(channel)

    def _bind_interdomain(
        self, remote_dom: int, remote_port: int, _local: int
    ) -> tuple[int, ...]:
        channel = self._evtchnd.bind_interdomain(
            self._named(remote_dom), Port(remote_port)
        )
        return remote_dom, remote_port, self._keep(channel)

    def _bind_virq(self, virq: int, vcpu: int, _port: int) -> tuple[int, ...]:
        return virq, vcpu, self._keep(self._evtchnd.bind_virq(virq, vcpu=vcpu))

    def _bind_ipi(self, vcpu: int, _port: int) -> tuple[int, ...]:
        return vcpu, self._keep(self._evtchnd.bind_ipi(vcpu))

    def _bind_vcpu(self, port: int, vcpu: int) -> tuple[int, ...]:
        self._evtchnd.bind_vcpu(Port(port), vcpu)
        return port, vcpu

    def _close(self, port: int) -> tuple[int, ...]:
        self._evtchnd.close_port(Port(port))
        self._forget(Port(port))
        return (port,)

    def _status(self, dom: int, port: int, *_old: int) -> tuple[int, ...]:
        reply = self._evtchnd.status(Port(port), domid=dom)
        first = second = 0
        if reply.status in (_UNBOUND, _INTERDOMAIN):
            first, second = reply.remote_dom, reply.remote_port
        elif reply.status == _VIRQ:
            first = reply.virq
        return dom, port, reply.status, reply.vcpu, first, second

    def _reset(self, dom: int) -> tuple[int, ...]:
        if self._named(dom) != self._domid:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._close_all()
        return (dom,)

    def _named(self, dom: int) -> Domid:
        return self._domid if dom == abi.EVTCHND_SELF else Domid(dom)
