# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd dies and comes back under handles of the library."""

import ctypes
import errno
import select
import signal
from collections.abc import Iterator

import pytest

from evtchnd.messages import Type
from evtchnd.ports import State
from tests.component.evtchnd.guestprocess import GuestProcess
from tests.support.evtchnd import LIMIT_S, Client, Daemon, library
from xenner.abi import VIRQ_DOM_EXC


class Handle:
    """An xenevtchn_handle."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL(str(library("xenevtchn")), use_errno=True)
        self.lib.xenevtchn_open.restype = ctypes.c_void_p
        self.raw = ctypes.c_void_p(self.lib.xenevtchn_open(None, 0))
        assert self.raw

    def call(self, name: str, *arguments: int) -> int:
        """Any function of the library; OSError for -1."""
        function = getattr(self.lib, f"xenevtchn_{name}")
        result = int(function(self.raw, *arguments))
        if result == -1:
            raise OSError(ctypes.get_errno(), name)
        return result

    def next_port(self) -> int:
        """Wait for an event, and unmask it."""
        ready = select.select([self.call("fd")], [], [], LIMIT_S)[0]
        assert ready, "silence"
        port = self.call("pending")
        self.call("unmask", port)
        return port

    def reconnect_if_lost(self) -> None:
        """Take what is pending."""
        while select.select([self.call("fd")], [], [], 0)[0]:
            self.call("unmask", self.call("pending"))


@pytest.fixture
def pair(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Handle, int, Handle, int]]:
    """Two handles and the channel between them."""
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(daemon.runtime_dir))
    one, other = Handle(), Handle()
    port = one.call("bind_unbound_port", 0)
    remote = other.call("bind_interdomain", 0, port)
    one.reconnect_if_lost()
    other.reconnect_if_lost()
    yield one, port, other, remote
    one.call("close")
    other.call("close")


Pair = tuple[Handle, int, Handle, int]


def test_a_channel_goes_on_without_evtchnd(pair: Pair, daemon: Daemon) -> None:
    one, port, other, remote = pair
    daemon.stop(signal.SIGKILL)
    for _ in range(10):
        # No request in between: nobody would answer it.
        one.call("notify", port)
        assert other.lib.xenevtchn_notify(other.raw, remote) == 0
    daemon.start()
    assert other.next_port() == remote
    assert one.next_port() == port


def test_both_ends_come_back(pair: Pair, daemon: Daemon) -> None:
    one, port, other, remote = pair
    daemon.stop(signal.SIGKILL)
    daemon.start()
    # Readable because the connection is gone; the call then does the rest.
    one.next_port()
    other.next_port()
    with Client(daemon.path) as client:
        status = client.must(Type.STATUS, port=port)
        assert (status.status, status.remote_port) == (
            State.INTERDOMAIN,
            remote,
        )
    one.reconnect_if_lost()
    other.reconnect_if_lost()
    one.call("notify", port)
    assert other.next_port() == remote
    other.call("notify", remote)
    assert one.next_port() == port
    # And what is new does not meet what was.
    assert one.call("bind_unbound_port", 0) not in (port, remote)
    other.call("unbind", remote)
    third = other.call("bind_interdomain", 0, port)
    other.reconnect_if_lost()
    one.call("notify", port)
    assert other.next_port() == third


def test_one_end_is_enough_to_send(pair: Pair, daemon: Daemon) -> None:
    one, port, other, remote = pair
    daemon.stop(signal.SIGKILL)
    daemon.start()
    one.next_port()
    # The other end has not come back yet; for its peer it is there.
    one.call("notify", port)
    with Client(daemon.path) as client:
        status = client.must(Type.STATUS, port=port)
        assert status.status == State.UNBOUND
    while other.next_port() != remote:
        pass


def test_a_virq_is_told_after_a_restart(
    pair: Pair, daemon: Daemon, guest_process: GuestProcess
) -> None:
    one, _port, _other, _remote = pair
    virq = one.call("bind_virq", VIRQ_DOM_EXC)
    daemon.stop(signal.SIGKILL)
    daemon.start()
    while one.next_port() != virq:
        pass
    one.reconnect_if_lost()
    with Client(daemon.path) as launcher:
        guest_process.register(launcher)
        guest_process.end()
        assert one.next_port() == virq


def test_a_lost_connection_is_made_again(pair: Pair, daemon: Daemon) -> None:
    one, *_rest = pair
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert one.call("bind_unbound_port", 0) > 0
    with pytest.raises(OSError) as refusal:
        one.call("bind_interdomain", 9, 1)
    assert refusal.value.errno == errno.ESRCH
