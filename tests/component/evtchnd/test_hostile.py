# SPDX-License-Identifier: GPL-2.0-or-later
"""Anything at all on the socket: answered, bounded, nobody else's matter."""

import errno
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evtchnd.messages import REQUEST_BYTES, DomainRecord, Request, Type
from tests.support.evtchnd import Client, Daemon, open_daemon
from xenner import abi

Connect = Callable[[], Client]

_NOBODY = 65534
_EDGES = (0, 1, 2, 3, 4095, 4096, 0x7FF0, 131071, 131072, 2**31, 2**32 - 1)


def _any_request(rng: random.Random) -> bytes:
    """A request whose every field may be wrong."""

    def number() -> int:
        return rng.choice(_EDGES)

    names = ("tag", "dom", "port", "remote_dom", "remote_port", "virq", "vcpu")
    record: dict[str, Any] = {
        name: number() for name in ("domid", "nr_ports", "nr_vcpus")
    }
    fields: dict[str, Any] = {name: number() for name in names}
    request = Request(
        rng.choice((*Type, number())),
        value=(rng.choice((0, 1, 2, 4, abi.EVTCHND_MAGIC)), number()),
        domain=DomainRecord(**record),
        **fields,
    )
    packet = bytearray(request.pack())
    match rng.randrange(4):
        case 0:
            del packet[rng.randrange(len(packet)) :]
        case 1:
            packet += bytes(rng.randrange(1, 300))
        case 2:
            packet[rng.randrange(len(packet))] = rng.randrange(256)
    return bytes(packet) or b"\0"


@pytest.fixture
def some_fds() -> Iterator[list[int]]:
    """Descriptors of all kinds, none of them what is wanted."""
    read, write = os.pipe()
    memory = os.memfd_create("short")
    fds = [
        read,
        write,
        memory,
        os.eventfd(0, os.EFD_NONBLOCK),
        os.pidfd_open(os.getpid()),
        os.open("/", os.O_PATH),
    ]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes(
    connect: Connect, daemon: Daemon, some_fds: list[int], seed: int
) -> None:
    rng = random.Random(seed)
    witness = connect()
    port = witness.must(Type.ALLOC_UNBOUND, remote_dom=0).port
    peer = connect()
    bound = peer.must(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=port)
    before = witness.must(Type.LINK, port=port)
    with Client(daemon.path) as client:
        for _ in range(500):
            packet = _any_request(rng)
            fds = rng.choices(some_fds, k=rng.randrange(4))
            reply = client.raw(packet, fds)
            if len(packet) != REQUEST_BYTES:
                assert reply.error == errno.EINVAL
                assert not client.fds
            assert reply.error == 0 or reply.error in errno.errorcode
    after = witness.must(Type.LINK, port=port)
    assert after == before
    assert peer.must(Type.LINK, port=bound.port).remote_port == port


def test_too_many_descriptors(connect: Connect, daemon: Daemon) -> None:
    client = connect()
    before = daemon.nr_fds()
    fds = [client.socket.fileno()] * 200
    for _ in range(20):
        client.send(Request(Type.STATUS).pack(), fds)
        assert client.receive() is not None
    assert daemon.nr_fds() == before


def test_a_client_that_never_reads(connect: Connect, daemon: Daemon) -> None:
    """Its replies fill its own socket; then its requests are not read."""
    other = connect()
    with Client(daemon.path) as silent:
        silent.socket.setblocking(False)
        packet = Request(Type.STATUS).pack()
        sent = 0
        while True:
            try:
                silent.socket.send(packet)
            except BlockingIOError:
                other.must(Type.STATUS, port=1)
                # Not one packet more, however often we come back.
                try:
                    silent.socket.send(packet)
                except BlockingIOError:
                    break
            sent += 1
            assert sent < 100000
        other.must(Type.ALLOC_UNBOUND, remote_dom=0)


def test_a_peer_that_dies_between_request_and_reply(
    connect: Connect, daemon: Daemon
) -> None:
    witness = connect()
    before = daemon.nr_fds()
    for _ in range(50):
        with Client(daemon.path) as client:
            client.send(Request(Type.ALLOC_UNBOUND).pack())
            client.socket.shutdown(socket.SHUT_RD)
    while daemon.nr_fds() != before:
        witness.must(Type.STATUS, port=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="root: to be somebody else")
def test_a_stranger_who_does_not_wait_for_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left before evtchnd, which is not there yet, can answer."""
    with open_daemon(tmp_path) as daemon:
        daemon.stop()
        daemon.path.chmod(0o666)
        # By name: the directories above are the tests' alone.
        monkeypatch.chdir(daemon.runtime_dir)
        daemon.runtime_dir.chmod(0o711)
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.seteuid(_NOBODY)
        try:
            stranger.connect(daemon.path.name)
        finally:
            os.seteuid(0)
        stranger.close()
        daemon.start()
        with Client(daemon.path) as client:
            client.must(Type.STATUS, port=1)


def test_descriptors_run_out(tmp_path: Path) -> None:
    """The one who asks for too much is refused; what there is goes on."""
    with open_daemon(tmp_path) as daemon:
        daemon.stop()
        daemon.start(nofile=128)
        with Client(daemon.path) as greedy, Client(daemon.path) as other:
            port = other.must(Type.ALLOC_UNBOUND, remote_dom=0).port
            errors = {0}
            while errors == {0}:
                errors.add(greedy.call(Type.ALLOC_UNBOUND).error)
            assert errors <= {0, errno.ENFILE, errno.EMFILE}
            other.must(Type.LINK, port=port)
            # A refusal leaves nothing behind: the next one says the same.
            for _ in range(50):
                assert greedy.call(Type.ALLOC_UNBOUND).error in errors - {0}
            greedy.must(Type.RESET, dom=0)
            other.must(Type.ALLOC_UNBOUND)


def test_more_clients_than_there_is_room_for(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        daemon.stop()
        daemon.start(nofile=128)
        clients = [Client(daemon.path) for _ in range(10)]
        late = Client(daemon.path, hello=False)
        late.send(
            Request(
                Type.HELLO, value=(abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION)
            ).pack()
        )
        clients[0].must(Type.STATUS, port=1)
        for client in clients:
            client.close()
        reply = late.receive()
        assert reply is not None
        assert reply.error == 0
        late.close()
