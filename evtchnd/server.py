# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket: accept, one request after the other, deaths.

A connection's next request is read when its last reply is sent, so a client
that does not read keeps one message here and nobody waiting.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import resource
import socket
from contextlib import suppress

import trio

from evtchnd.domains import CREDENTIALS_BYTES, NOBODY, Domain, Trusted, identify
from evtchnd.messages import REPLY_BYTES, REQUEST_BYTES, Reply, Request
from evtchnd.requests import Answer, answer
from evtchnd.switchboard import Handle, Switchboard
from xenner import abi

_ANCILLARY_BYTES = socket.CMSG_LEN(abi.EVTCHND_MAX_FDS * 4)
# Each has the socket, its page and the page's doorbell.
_FDS_PER_CONNECTION = 3
_ACCEPT_PAUSE_S = 0.1
_SO_PEERGROUPS = 59  # asm-generic/socket.h
# All that Python's getsockopt() takes.
_GROUPS_BYTES = 1024

_log = logging.getLogger(__name__)


class Server:
    """evtchnd's shell; `serve` is all of it."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        trusted: Trusted = NOBODY,
        nofile: int | None = None,
    ) -> None:
        """`nofile` descriptors are divided up: RLIMIT_NOFILE's if None."""
        if nofile is None:
            nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._listener = trio.socket.from_stdlib_socket(listener)
        self._trusted = trusted
        self._connections_max = nofile // 4 // _FDS_PER_CONNECTION
        self._nr_connections = 0
        self._watched: dict[int, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self.board = Switchboard(
            doorbells_max=nofile // 2,
            registered=self._watch,
            unregistered=self._unwatch,
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; the state is gone then."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    sock = await self._accept()
                    self._nursery.start_soon(self._serve_connection, sock)
        finally:
            self.board.close()

    async def check_health(self) -> None:
        """Send ourselves a request on a new connection; return with the
        reply."""
        ours, theirs = trio.socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        assert self._nursery is not None
        with ours:
            self._nr_connections += 1
            self._nursery.start_soon(self._serve_connection, theirs)
            # A refusal is a reply too.
            with suppress(OSError):
                await ours.send(Request(type=abi.EVTCHND_HELLO).pack())
            await ours.recv(REPLY_BYTES)

    async def _accept(self) -> trio.socket.SocketType:
        while True:
            if self._nr_connections >= self._connections_max:
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            try:
                sock, _address = await self._listener.accept()
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                _log.warning("cannot accept: %s", error.strerror)
                await trio.sleep(_ACCEPT_PAUSE_S)
            else:
                self._nr_connections += 1
                return sock

    async def _serve_connection(self, sock: trio.socket.SocketType) -> None:
        try:
            with sock:
                await self._serve_client(sock)
        finally:
            self._nr_connections -= 1

    async def _serve_client(self, sock: trio.socket.SocketType) -> None:
        credentials = sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS_BYTES
        )
        peer = identify(
            credentials,
            _groups_of(sock),
            self.board.domains,
            trusted=self._trusted,
        )
        if peer is None:
            refusal = Reply(type=abi.EVTCHND_HELLO, error=errno.EACCES)
            # A client that disconnects before the reply must not end us.
            with suppress(OSError):
                await _send(sock, Answer(refusal))
            return
        handle = Handle(peer)
        try:
            while await self._serve_request(sock, handle):
                pass
        finally:
            self.board.leave(handle)

    async def _serve_request(
        self, sock: trio.socket.SocketType, handle: Handle
    ) -> bool:
        """Take one request and answer it; False: the client is gone."""
        try:
            packet, fds = await _receive(sock)
        except OSError:
            return False
        try:
            if not packet:
                return False
            result = answer(self.board, handle, packet, fds)
        finally:
            for fd in fds:
                os.close(fd)
        try:
            await _send(sock, result)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                return False
            # Too many descriptors on their way to that user: undo, say so.
            if result.made is not None:
                self.board.close_ends([result.made])
            refusal = Reply(
                type=result.reply.type,
                tag=result.reply.tag,
                error=errno.ETOOMANYREFS,
            )
            try:
                await _send(sock, Answer(refusal))
            except OSError:
                return False
        return True

    def _watch(self, domain: Domain) -> None:
        assert self._nursery is not None
        scope = self._watched[domain.domid] = trio.CancelScope()
        self._nursery.start_soon(self._wait_death, domain, scope)

    def _unwatch(self, domain: Domain) -> None:
        self._watched.pop(domain.domid).cancel()
        # The descriptor is about to be closed under the waiting task.
        trio.lowlevel.notify_closing(domain.pidfd)

    async def _wait_death(
        self, domain: Domain, scope: trio.CancelScope
    ) -> None:
        with scope:
            try:
                await trio.lowlevel.wait_readable(domain.pidfd)
            except trio.ClosedResourceError:
                return
            # Unless somebody unregistered it while we were on our way here.
            if self.board.domains.get(domain.domid) is domain:
                _log.info(
                    f"the process of domain {domain.domid} ended",
                    extra={"XENNER_DOMID": str(domain.domid)},
                )
                self.board.unregister(domain.domid)


_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def _groups_of(sock: trio.socket.SocketType) -> bytes:
    """The supplementary groups that the client had when it connected. One
    that is in more than fit is in none."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        return b""


async def _receive(sock: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    """One packet, cut off behind the first byte too many; its descriptors."""
    data, ancillary, _flags, _address = await sock.recvmsg(
        REQUEST_BYTES + 1, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % fds.itemsize
            fds.frombytes(payload[:whole])
    return data, list(fds)


async def _send(sock: trio.socket.SocketType, result: Answer) -> None:
    ancillary = []
    if result.fds:
        rights = array.array("i", result.fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
    await sock.sendmsg([result.reply.pack()], ancillary, socket.MSG_NOSIGNAL)
