# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of evtchnd whose evtchnd is late."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evtchnd.messages import REQUEST_BYTES, Reply, Request
from xenner import abi
from xenner.evtchn import Evtchnd
from xenner.types import Port


def _answer(peer: socket.socket, *, port: int = 0, fds: int = 0) -> None:
    """The next request; with so many descriptors."""
    request = Request.parse(peer.recv(REQUEST_BYTES))
    flags = (1 << fds) - 1
    reply = Reply(type=request.type, tag=request.tag, port=port, fds=flags)
    socket.send_fds(peer, [reply.pack()], [0] * fds)


@pytest.fixture
def late(tmp_path: Path) -> Iterator[tuple[socket.socket, Evtchnd]]:
    """An evtchnd of this test's, and a handle that has waited for a port in
    vain."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        accepted: list[socket.socket] = []

        def greet() -> None:
            accepted.append(listener.accept()[0])
            _answer(accepted[0])

        thread = threading.Thread(target=greet)
        thread.start()
        with Evtchnd(path) as handle:
            thread.join()
            limit_s = handle._socket.gettimeout()
            handle._socket.settimeout(0.01)
            with pytest.raises(TimeoutError):
                handle.bind_virq(abi.VIRQ_DEBUG)
            handle._socket.settimeout(limit_s)
            with accepted[0] as peer:
                yield peer, handle


def _nr_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_late_reply_is_nobody_elses(
    late: tuple[socket.socket, Evtchnd],
) -> None:
    peer, handle = late
    before = _nr_fds()
    _answer(peer, port=5, fds=1)
    thread = threading.Thread(target=_answer, args=(peer,), kwargs={"port": 7})
    thread.start()
    assert handle.status(Port(1)).port == 7
    thread.join()
    assert _nr_fds() == before


def test_a_late_reply_is_no_end(late: tuple[socket.socket, Evtchnd]) -> None:
    peer, handle = late
    before = _nr_fds()
    _answer(peer, port=5, fds=1)
    handle.reconnect_if_lost()
    assert handle.nr_reconnects == 0
    assert _nr_fds() == before
    # It is not there any more, so whoever waits for the end waits on.
    assert not select.select([handle], [], [], 0)[0]
