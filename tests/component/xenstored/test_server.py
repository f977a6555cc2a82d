# SPDX-License-Identifier: GPL-2.0-or-later
"""The store behind real sockets: who leaves, who never reads, who is killed."""

import os
import resource
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.store import PATIENCE_S, Peer, StoreProcess
from xenstored.wire import HEADER, PAYLOAD_MAX, MessageType, message

READ = MessageType.READ


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(pid)


def fill(sock: socket.socket, data: bytes) -> int:
    """Send it again and again until nobody takes it; how many bytes."""
    sock.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += sock.send(data)
    return sent


def test_socket_is_its_owners_alone(store: StoreProcess) -> None:
    mode = store.socket_path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_requests_in_pieces_and_in_heaps(store: StoreProcess) -> None:
    client = store.connect()
    assert client.write(b"/a", b"1") == b"OK\0"
    request = message(READ, 1, 0, b"/a\0")
    for byte in request:
        client.sock.sendall(bytes([byte]))
    assert client.take() == (READ, b"1")
    client.sock.sendall(request * 1000)
    for _ in range(1000):
        assert client.take() == (READ, b"1")


def test_overlong_payload_ends_that_client_alone(store: StoreProcess) -> None:
    bad, good = store.connect(), store.connect()
    bad.sock.sendall(HEADER.pack(READ, 1, 0, PAYLOAD_MAX + 1))
    with pytest.raises(EOFError):
        bad.take()
    assert good.ask(READ, b"/tool") == b""


def test_client_that_leaves_amid_a_transaction(store: StoreProcess) -> None:
    client, other = store.connect(), store.connect()
    tx = int(client.ask(MessageType.TRANSACTION_START, b"")[:-1])
    client.ask(MessageType.MKDIR, b"/half", tx=tx)
    client.sock.close()
    assert b"half" not in other.ask(MessageType.DIRECTORY, b"/").split(b"\0")


def test_client_that_never_reads_costs_nobody_else(store: StoreProcess) -> None:
    stuck, good = store.connect(), store.connect()
    good.write(b"/value", bytes(4000))
    stuck.ask(MessageType.WATCH, b"/w", b"token")
    request = message(READ, 1, 0, b"/value\0")
    sent = fill(stuck.sock, request * 100)
    assert store.process is not None
    before = resident_kib(store.process.pid)
    for number in range(3000):
        assert good.write(b"/w/%d" % number, b"") == b"OK\0"
    # The nodes themselves, not what the other one was to be told of them.
    assert resident_kib(store.process.pid) - before < 8 << 10
    # It is served as far as it reads.
    stuck.sock.settimeout(PATIENCE_S)
    replies = 0
    while replies < sent // len(request):
        kind, payload = stuck.take()
        if kind == READ:
            assert payload == bytes(4000)
            replies += 1


def test_more_clients_than_descriptors(store: StoreProcess) -> None:
    assert store.process is not None
    first = store.connect()
    first.write(b"/a", b"1")
    pid = store.process.pid
    in_use = len(os.listdir(f"/proc/{pid}/fd"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use + 2, hard))
    two = [store.connect() for _ in range(2)]
    for client in two:
        client.write(b"/a", b"1")
    waiting = store.connect()
    waiting.sock.sendall(message(READ, 1, 0, b"/a\0"))
    assert first.ask(READ, b"/a") == b"1"
    two[0].sock.close()
    assert waiting.take() == (READ, b"1")
    _, said = store.stop()
    assert said == b"xenstore: no more clients: Too many open files\n"


def test_killed_at_any_moment_it_comes_back(store: StoreProcess) -> None:
    client = store.connect()
    client.write(b"/count", b"0")
    acknowledged = 0
    for life in range(4):
        request = b"".join(
            message(MessageType.WRITE, 1, 0, b"/count\0%d" % number)
            for number in range(acknowledged + 1, acknowledged + 301)
        )
        client.sock.sendall(request)
        for _ in range(100 * life):
            assert client.take() == (MessageType.WRITE, b"OK\0")
            acknowledged += 1
        store.kill()
        store.start()
        client = store.connect()
        found = int(client.ask(READ, b"/count"))
        # What was acknowledged is there; more may be.
        assert acknowledged <= found <= acknowledged + 300
        acknowledged = found


def test_domains_outlive_the_store(store: StoreProcess) -> None:
    client = store.connect()
    client.ask(MessageType.INTRODUCE, b"3", b"1", b"1")
    store.kill()
    store.start()
    client = store.connect()
    assert client.ask(MessageType.IS_DOMAIN_INTRODUCED, b"3") == b"T\0"


def test_domain_0_has_its_nodes(store: StoreProcess) -> None:
    client = store.connect()
    assert client.ask(READ, b"/local/domain/0/domid") == b"0"
    assert client.ask(READ, b"/local/domain/0/name") == b"Domain-0"
    client.write(b"/local/domain/0/name", b"tower")
    client.ask(MessageType.RM, b"/local/domain/0/domid")
    store.kill()
    store.start()
    client = store.connect()
    # What is missing is made again, and what somebody wrote is kept.
    assert client.ask(READ, b"/local/domain/0/domid") == b"0"
    assert client.ask(READ, b"/local/domain/0/name") == b"tower"


def test_second_store_is_refused(store: StoreProcess) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "xenstored"),
            *("--socket", store.socket_path),
        ],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"somebody listens on" in done.stderr
    assert store.connect().ask(READ, b"/tool") == b""


def test_many_clients_are_served_in_turn(store: StoreProcess) -> None:
    clients: list[Peer] = [store.connect() for _ in range(20)]
    request = message(READ, 1, 0, b"/tool\0") * 200
    for client in clients:
        client.sock.sendall(request)
    for _ in range(200):
        for client in clients:
            assert client.take() == (READ, b"")


def test_half_closed_client_is_let_go(store: StoreProcess) -> None:
    client = store.connect()
    client.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        client.take()
