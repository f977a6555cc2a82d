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
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Protocol

import trio

from xenner import abi
from xenner.abi import ffi
from xenner.errors import HostError
from xenner.evtchn import Channel, Evtchnd
from xenner.types import Domid, Port


class Notifier(Protocol):
    """What this room needs of xennerd.vm.kvm.machine.Vm."""

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
        self._operations: dict[int, tuple[str, Callable[[Any], None]]] = {
            abi.EVTCHNOP_alloc_unbound: (
                "evtchn_alloc_unbound",
                self._alloc_unbound,
            ),
            abi.EVTCHNOP_bind_interdomain: (
                "evtchn_bind_interdomain",
                self._bind_interdomain,
            ),
            abi.EVTCHNOP_bind_ipi: ("evtchn_bind_ipi", self._bind_ipi),
            abi.EVTCHNOP_bind_vcpu: ("evtchn_bind_vcpu", self._bind_vcpu),
            abi.EVTCHNOP_bind_virq: ("evtchn_bind_virq", self._bind_virq),
            abi.EVTCHNOP_close: ("evtchn_close", self._close),
            abi.EVTCHNOP_reset: ("evtchn_reset", self._reset),
            abi.EVTCHNOP_status: ("evtchn_status", self._status),
        }
        """By EVTCHNOP_*: the structure, whose answer is written into it."""

    def perform(self, request: Any) -> None:
        """Answer a struct emu_request of EMU_REQUEST_EVTCHN in place.

        The request is guest memory: it is copied, checked, and the result is
        0 or one of Xen's errors, negative.
        """
        cmd, length = int(request.arg[0]), int(request.length)
        struct, perform = self._operations.get(cmd, ("", None))
        if perform is None or not (
            abi.sizeof(struct) <= length <= len(request.data)
        ):
            request.result = -errno.EINVAL
            return
        argument = ffi.new(f"struct {struct} *")
        ffi.memmove(argument, request.data, abi.sizeof(struct))
        try:
            with self._lock:
                perform(argument)
        except OSError as error:
            # evtchnd's errors are Xen's, which have Linux's numbers.
            request.result = -(error.errno or errno.EINVAL)
            return
        ffi.memmove(request.data, argument, abi.sizeof(struct))
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

    def _alloc_unbound(self, op: Any) -> None:
        op.remote_dom = self._named(op.remote_dom)
        channel = self._evtchnd.alloc_unbound(op.remote_dom, domid=op.dom)
        op.port = self._keep(channel)

    def _bind_interdomain(self, op: Any) -> None:
        remote = self._named(op.remote_dom)
        op.local_port = self._keep(
            self._evtchnd.bind_interdomain(remote, op.remote_port)
        )

    def _bind_virq(self, op: Any) -> None:
        op.port = self._keep(self._evtchnd.bind_virq(op.virq, vcpu=op.vcpu))

    def _bind_ipi(self, op: Any) -> None:
        op.port = self._keep(self._evtchnd.bind_ipi(op.vcpu))

    def _bind_vcpu(self, op: Any) -> None:
        self._evtchnd.bind_vcpu(op.port, op.vcpu)

    def _close(self, op: Any) -> None:
        self._evtchnd.close_port(op.port)
        self._forget(op.port)

    def _status(self, op: Any) -> None:
        reply = self._evtchnd.status(op.port, domid=op.dom)
        op.status, op.vcpu = reply.status, reply.vcpu
        op.u.interdomain.dom = op.u.interdomain.port = 0
        match reply.status:
            case abi.EVTCHNSTAT_unbound:
                op.u.unbound.dom = reply.remote_dom
            case abi.EVTCHNSTAT_interdomain:
                op.u.interdomain.dom = reply.remote_dom
                op.u.interdomain.port = reply.remote_port
            case abi.EVTCHNSTAT_virq:
                op.u.virq = reply.virq

    def _reset(self, op: Any) -> None:
        if self._named(op.dom) != self._domid:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._close_all()

    def _named(self, dom: int) -> Domid:
        return self._domid if dom == abi.EVTCHND_SELF else Domid(dom)
