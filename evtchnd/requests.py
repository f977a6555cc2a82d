# SPDX-License-Identifier: GPL-2.0-or-later
"""Each request: the rights that it needs, its effect, its reply."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from evtchnd.delivery import HandlePage
from evtchnd.domains import Role, is_guest_domid, pid_of
from evtchnd.messages import Reply, Request, Type
from evtchnd.ports import End, PortError, State
from evtchnd.switchboard import Handle, Switchboard
from xenner import abi
from xenner.types import Domid

_PENDING_BYTES = abi.sizeof("emu_pending")


@dataclass(slots=True)
class Answer:
    """A reply and the descriptors that go with it; they stay evtchnd's.

    `made` is the port to close again should the reply not get through.
    """

    reply: Reply = field(default_factory=Reply)
    fds: list[int] = field(default_factory=list)
    made: End | None = None


@dataclass(slots=True)
class _Call:
    board: Switchboard
    handle: Handle
    request: Request
    fds: list[int]

    @property
    def domid(self) -> Domid:
        return self.handle.peer.domid

    def named_domid(self) -> Domid:
        """The request's dom; EPERM if a guest names another than its own."""
        return self._may_name(self.request.dom)

    def remote_domid(self) -> Domid:
        remote = self.request.remote_dom
        return self.domid if remote == abi.EVTCHND_SELF else Domid(remote)

    def own_end(self) -> End:
        """The request's port, which must be this handle's. ENOTCONN: not."""
        end = self.board.ports.end(self.domid, self.request.port)
        if end.owner is not self.handle.owner:
            raise PortError(errno.ENOTCONN)
        return end

    def _may_name(self, dom: int) -> Domid:
        if dom == abi.EVTCHND_SELF:
            return self.domid
        if dom != self.domid and not self.handle.peer.is_host:
            raise PortError(errno.EPERM)
        return Domid(dom)


def answer(
    board: Switchboard, handle: Handle, packet: bytes, fds: list[int]
) -> Answer:
    """Do what a packet asks for. Its descriptors stay the caller's.

    Never raises for what a client did: the reply has the errno.
    """
    request = Request(0)
    try:
        request = Request.parse(packet)
        result = _dispatch(_Call(board, handle, request, fds))
    except PortError as error:
        result = Answer(Reply(error=error.errno))
    except OSError as error:
        # The host has no descriptor or no memory left for it.
        result = Answer(Reply(error=error.errno or errno.EIO))
    result.reply = replace(result.reply, type=request.type, tag=request.tag)
    return result


def _dispatch(call: _Call) -> Answer:
    if call.request.type not in _REQUESTS:
        raise PortError(errno.ENOSYS)
    if call.request.type != Type.HELLO and not call.handle.is_greeted:
        raise PortError(errno.EPROTO)
    roles, serve = _REQUESTS[Type(call.request.type)]
    if call.handle.peer.role not in roles:
        raise PortError(errno.EPERM)
    if call.handle.only is not None:
        _check_restricted(call, call.handle.only)
    return serve(call)


def _check_restricted(call: _Call, only: Domid) -> None:
    """EACCES, as of a restricted /dev/xen/evtchn, for all but what there is
    and what that domain offers."""
    match call.request.type:
        case Type.CLOSE | Type.LINK | Type.SEND | Type.UNMASK:
            return
        case Type.BIND_INTERDOMAIN if call.remote_domid() == only:
            return
    raise PortError(errno.EACCES)


def _hello(call: _Call) -> Answer:
    magic, version = call.request.value
    if magic != abi.EVTCHND_MAGIC or version != abi.EVTCHND_VERSION:
        raise PortError(errno.EPROTO)
    call.board.greet(call.handle, call.fds)
    peer, page = call.handle.peer, call.handle.page
    reply = Reply(dom=peer.domid, status=peer.role)
    if page is None or call.fds:
        return Answer(reply)
    reply = replace(
        reply,
        fds=abi.EVTCHND_FD_PAGE | abi.EVTCHND_FD_DOORBELL,
        page_kind=abi.EVTCHND_PAGE_HOST,
        page_id=page.page_id,
    )
    return Answer(reply, [page.fd, page.doorbell])


def _alloc_unbound(call: _Call) -> Answer:
    domid = call.named_domid()
    is_own = domid == call.domid
    call.board.check_room(domid)
    end = call.board.ports.alloc_unbound(
        domid,
        call.remote_domid(),
        port=call.request.port,
        owner=call.handle.owner if is_own else None,
    )
    return _made(call, end)


def _bind_interdomain(call: _Call) -> Answer:
    call.board.check_room(call.domid)
    end = call.board.ports.bind_interdomain(
        call.domid,
        call.remote_domid(),
        call.request.remote_port,
        port=call.request.port,
        owner=call.handle.owner,
    )
    return _made(call, end)


def _bind_virq(call: _Call) -> Answer:
    request = call.request
    call.board.check_room(call.domid)
    end = call.board.ports.bind_virq(
        call.domid,
        request.virq,
        request.vcpu,
        port=request.port,
        owner=call.handle.owner,
    )
    return _made(call, end)


def _bind_ipi(call: _Call) -> Answer:
    request = call.request
    call.board.check_room(call.domid)
    end = call.board.ports.bind_ipi(
        call.domid, request.vcpu, port=request.port, owner=call.handle.owner
    )
    return _made(call, end)


def _restore(call: _Call) -> Answer:
    """The port as it was, with the doorbells that both sides still hold."""
    request, ports = call.request, call.board.ports
    domid, owner = call.domid, call.handle.owner
    call.board.check_room(domid)
    if not request.port:
        raise PortError(errno.EINVAL)
    remote = call.remote_domid()
    match request.value[0]:
        case State.UNBOUND:
            end = ports.restore_unbound(
                domid, remote, port=request.port, owner=owner
            )
        case State.INTERDOMAIN:
            end = ports.restore(
                domid,
                remote,
                request.remote_port,
                port=request.port,
                owner=owner,
            )
        case State.VIRQ:
            end = ports.bind_virq(
                domid,
                request.virq,
                request.vcpu,
                port=request.port,
                owner=owner,
            )
        case State.IPI:
            end = ports.bind_ipi(
                domid, request.vcpu, port=request.port, owner=owner
            )
        case _:
            raise PortError(errno.EINVAL)
    return _made(call, end, call.fds)


def _made(call: _Call, end: End, fds: list[int] | None = None) -> Answer:
    call.board.open_doorbells(end, fds)
    result = _channel(call, end)
    result.made = end
    return result


def _channel(call: _Call, end: End) -> Answer:
    """What the holder of an end needs to hear and to ring the other one."""
    fds = call.board.doorbells.fds_of(end)
    flags = abi.EVTCHND_FD_IN
    if len(fds) == 2:
        flags |= abi.EVTCHND_FD_OUT
    reply = Reply(
        dom=end.domid,
        port=end.port,
        # The end that is restored first works as if its peer were there too.
        status=State.INTERDOMAIN if end.awaited else end.state,
        vcpu=end.vcpu,
        remote_dom=end.remote_domid,
        remote_port=end.peer.port if end.peer else end.awaited,
        virq=end.virq,
    )
    # Only the host may see pages: a guest's is in all of that guest's memory.
    page = call.board.page_of(end.peer) if end.peer else None
    if page is not None and call.handle.peer.is_host:
        is_handle = isinstance(page, HandlePage)
        flags |= abi.EVTCHND_FD_PAGE | abi.EVTCHND_FD_DOORBELL
        fds += [page.fd, page.doorbell]
        reply = replace(
            reply,
            page_kind=abi.EVTCHND_PAGE_HOST
            if is_handle
            else abi.EVTCHND_PAGE_GUEST,
            page_id=page.page_id,
            page_offset=0 if isinstance(page, HandlePage) else page.offset,
        )
    return Answer(replace(reply, fds=flags), fds)


def _link(call: _Call) -> Answer:
    return _channel(call, call.own_end())


def _bind_vcpu(call: _Call) -> Answer:
    end = call.own_end()
    call.board.ports.bind_vcpu(call.domid, end.port, call.request.vcpu)
    return Answer()


def _send(call: _Call) -> Answer:
    """Notify for a client without descriptors; only between host handles."""
    end = call.own_end()
    target = call.board.ports.send(call.domid, end.port)
    if target is not None:
        if not isinstance(target.owner, Handle):
            raise PortError(errno.EOPNOTSUPP)
        call.board.doorbells.ring(target)
    return Answer()


def _unmask(call: _Call) -> Answer:
    call.board.ports.unmask(call.domid, call.request.port)
    return Answer()


def _status(call: _Call) -> Answer:
    domid = call.named_domid()
    status = call.board.ports.status(domid, call.request.port)
    reply = Reply(
        dom=domid,
        port=call.request.port,
        status=status.state,
        vcpu=status.vcpu,
        remote_dom=status.remote_domid,
        remote_port=status.remote_port,
        virq=status.virq,
    )
    return Answer(reply)


def _close(call: _Call) -> Answer:
    call.board.close_ends([call.own_end()])
    return Answer()


def _reset(call: _Call) -> Answer:
    """All ports of a domain; of the host's, those of this handle."""
    domid = call.named_domid()
    owner = call.handle.owner if domid == call.domid else None
    ends = call.board.ports.ends(domid)
    call.board.close_ends(end for end in ends if end.owner is owner)
    return Answer()


def _register(call: _Call) -> Answer:
    if len(call.fds) != 1:
        raise PortError(errno.EINVAL)
    _check_launches(call, pid_of(call.fds[0]))
    call.board.register(call.request.domain, call.fds[0])
    # The domain owns it now.
    call.fds.clear()
    return Answer()


def _check_launches(call: _Call, pid: int | None) -> None:
    """EPERM: it may launch itself only, and that is another process."""
    if call.handle.peer.only_pid not in (None, pid):
        raise PortError(errno.EPERM)


def _pid_of_domain(call: _Call) -> int | None:
    domain = call.board.domains.get(call.request.dom)
    return domain.record.pid if domain is not None else None


def _unregister(call: _Call) -> Answer:
    _check_launches(call, _pid_of_domain(call))
    call.board.unregister(call.request.dom)
    return Answer()


def _shutdown(call: _Call) -> Answer:
    _check_launches(call, _pid_of_domain(call))
    call.board.shut_down(call.request.dom, call.request.value[0] & 0xFF)
    return Answer()


def _raise_virq(call: _Call) -> Answer:
    """Of the host's only: a guest's own VIRQs are emu's to raise."""
    _check_launches(call, None)
    if call.named_domid() != call.domid:
        raise PortError(errno.EOPNOTSUPP)
    call.board.raise_virq(call.request.virq, call.request.vcpu)
    return Answer()


def _attach(call: _Call) -> Answer:
    call.board.attach(
        call.domid,
        call.fds,
        offset=call.request.value[0],
        nr_bytes=_PENDING_BYTES,
    )
    return Answer()


def _domain_info(call: _Call) -> Answer:
    return Answer(Reply(domain=call.board.info(call.request.dom)))


def _restrict(call: _Call) -> Answer:
    domid = call.request.remote_dom
    if not is_guest_domid(domid):
        raise PortError(errno.EINVAL)
    call.handle.only = Domid(domid)
    return Answer()


_ALL = frozenset(Role)
_HOST = frozenset({Role.HOST, Role.LAUNCHER})
_LAUNCHER = frozenset({Role.LAUNCHER})
_DOMAIN = frozenset({Role.DOMAIN})

_REQUESTS: dict[int, tuple[frozenset[Role], Callable[[_Call], Answer]]] = {
    Type.HELLO: (_ALL, _hello),
    Type.ALLOC_UNBOUND: (_ALL, _alloc_unbound),
    Type.BIND_INTERDOMAIN: (_ALL, _bind_interdomain),
    Type.BIND_VIRQ: (_ALL, _bind_virq),
    Type.BIND_IPI: (_ALL, _bind_ipi),
    Type.BIND_VCPU: (_ALL, _bind_vcpu),
    Type.SEND: (_HOST, _send),
    Type.UNMASK: (_ALL, _unmask),
    Type.STATUS: (_ALL, _status),
    Type.CLOSE: (_ALL, _close),
    Type.RESET: (_ALL, _reset),
    Type.LINK: (_ALL, _link),
    Type.RESTORE: (_ALL, _restore),
    Type.REGISTER: (_LAUNCHER, _register),
    Type.UNREGISTER: (_LAUNCHER, _unregister),
    Type.SHUTDOWN: (_LAUNCHER, _shutdown),
    Type.RAISE_VIRQ: (_LAUNCHER, _raise_virq),
    Type.ATTACH: (_DOMAIN, _attach),
    Type.DOMAIN_INFO: (_HOST, _domain_info),
    Type.RESTRICT: (_HOST, _restrict),
}
