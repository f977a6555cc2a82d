# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd's socket: who may what, whose ports end when, descriptors."""

import errno
import os
import pwd
import select
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evtchnd.messages import DomainRecord, Request, Type
from evtchnd.ports import State
from tests.component.evtchnd.guestprocess import GuestProcess
from tests.support.evtchnd import LIMIT_S, Client, Daemon, open_daemon
from xenner import abi
from xenner.abi import VIRQ_DOM_EXC

Connect = Callable[[], Client]
ALL_FDS = 15


def heard(fd: int) -> bool:
    """Wait for a doorbell; the test fails if it stays silent."""
    return bool(select.select([fd], [], [], LIMIT_S)[0])


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore.1"
    path.touch()
    os.truncate(path, 16 << 20)
    return path


def test_hello_comes_first(daemon: Daemon) -> None:
    with Client(daemon.path, hello=False) as client:
        assert client.call(Type.STATUS).error == errno.EPROTO
        wrong = (abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION + 1)
        assert client.call(Type.HELLO, value=wrong).error == errno.EPROTO
        right = (abi.EVTCHND_MAGIC, abi.EVTCHND_VERSION)
        reply = client.must(Type.HELLO, value=right)
        assert reply.status == abi.EVTCHND_ROLE_LAUNCHER
        assert len(client.fds) == 2


def test_two_handles_of_the_host(connect: Connect) -> None:
    one, other = connect(), connect()
    unbound = one.must(Type.ALLOC_UNBOUND, remote_dom=0)
    out = os.dup(one.fds[1])
    bound = other.must(
        Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=unbound.port
    )
    assert bound.fds == ALL_FDS
    os.eventfd_write(out, 1)
    os.close(out)
    assert heard(other.fds[0])
    link = one.must(Type.LINK, port=unbound.port)
    assert (link.status, link.remote_port) == (State.INTERDOMAIN, bound.port)
    assert link.page_id == other.hello.page_id
    assert one.call(Type.LINK, port=bound.port).error == errno.ENOTCONN
    assert one.call(Type.CLOSE, port=bound.port).error == errno.ENOTCONN


def test_ports_end_with_their_handle(connect: Connect) -> None:
    one, other = connect(), connect()
    unbound = one.must(Type.ALLOC_UNBOUND, remote_dom=0)
    other.must(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=unbound.port)
    generation = os.pread(one.page[0], 4, 0)
    other.close()
    # The end of that connection is another task's business in there.
    while os.pread(one.page[0], 4, 0) == generation:
        one.must(Type.STATUS, port=unbound.port)
    status = one.must(Type.STATUS, port=unbound.port)
    assert status.status == State.UNBOUND


def test_the_kernels_port_for_xenstore(connect: Connect) -> None:
    one = connect()
    port = abi.EVTCHND_XENSTORE_PORT
    bound = one.must(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=port)
    again = one.call(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=port)
    assert again.error == errno.EINVAL
    one.must(Type.CLOSE, port=bound.port)
    one.must(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=port)


@pytest.mark.parametrize(
    ("kind", "fields", "number"),
    [
        (Type.BIND_INTERDOMAIN, {"remote_dom": 5}, errno.ESRCH),
        (Type.BIND_INTERDOMAIN, {"remote_port": 4000}, errno.EINVAL),
        (Type.BIND_VIRQ, {"virq": 24}, errno.EINVAL),
        (Type.BIND_VIRQ, {"virq": 0, "vcpu": 1}, errno.ENOENT),
        (Type.BIND_IPI, {"vcpu": 3}, errno.ENOENT),
        (Type.ALLOC_UNBOUND, {"port": 1}, errno.EBUSY),
        (Type.ALLOC_UNBOUND, {"dom": 5}, errno.ESRCH),
        (Type.CLOSE, {"port": 99}, errno.EINVAL),
        (Type.STATUS, {"port": 131072}, errno.EINVAL),
        (Type.DOMAIN_INFO, {"dom": 1}, errno.ESRCH),
        (Type.REGISTER, {}, errno.EINVAL),
        (Type.UNREGISTER, {"dom": 1}, errno.ESRCH),
        (Type.ATTACH, {}, errno.EPERM),
        (Type.RESTORE, {"port": 0}, errno.EINVAL),
    ],
)
def test_refusals(
    connect: Connect, kind: Type, fields: dict[str, Any], number: int
) -> None:
    assert connect().call(kind, **fields).error == number


def test_unknown_requests(connect: Connect) -> None:
    client = connect()
    assert client.raw(Request(0).pack()).error == errno.ENOSYS
    assert client.raw(Request(len(Type) + 1).pack()).error == errno.ENOSYS


def test_a_domain_is_its_process(
    connect: Connect, guest_process: GuestProcess, vmcore: Path
) -> None:
    launcher = connect()
    guest_process.register(launcher)
    answer = guest_process.ask("call ALLOC_UNBOUND remote_dom=0")
    assert answer == "error=0 port=1 fds=3 dom=1 status=1"
    assert guest_process.ask(f"attach {vmcore}") == "error=0"
    # Not another domain's ports, and nothing that is the launcher's.
    for request in (
        "ALLOC_UNBOUND dom=0",
        "STATUS dom=0 port=1",
        "RESET dom=2",
        "UNREGISTER dom=1",
        "DOMAIN_INFO dom=0",
        "RAISE_VIRQ virq=3",
    ):
        assert guest_process.ask(f"call {request}").startswith(
            f"error={errno.EPERM} "
        )


def test_host_and_guest_notify_each_other(
    connect: Connect, guest_process: GuestProcess, vmcore: Path
) -> None:
    launcher, host = connect(), connect()
    guest_process.register(launcher)
    guest_process.ask(f"attach {vmcore}")
    store = launcher.must(Type.ALLOC_UNBOUND, dom=1, remote_dom=0)
    assert "error=0" in guest_process.ask(f"call LINK port={store.port}")
    bound = host.must(
        Type.BIND_INTERDOMAIN, remote_dom=1, remote_port=store.port
    )
    assert bound.page_kind == abi.EVTCHND_PAGE_GUEST
    assert os.path.samestat(os.fstat(host.fds[2]), os.stat(vmcore))
    assert bound.page_offset == abi.EMU_PENDING_GPA
    assert guest_process.ask("ring") == "rung"
    assert heard(host.fds[0])
    os.eventfd_write(host.fds[3], 1)
    assert guest_process.ask("irq") == "1"
    os.eventfd_write(host.fds[1], 1)
    assert guest_process.ask("hears") == "1"


def test_a_guest_sees_no_pages(
    connect: Connect, guest_process: GuestProcess
) -> None:
    launcher = connect()
    guest_process.register(launcher)
    unbound = launcher.must(Type.ALLOC_UNBOUND, remote_dom=1)
    answer = guest_process.ask(
        f"call BIND_INTERDOMAIN remote_dom=0 remote_port={unbound.port}"
    )
    assert "error=0" in answer
    assert "fds=3 " in answer


def test_a_dead_process_is_a_dead_domain(
    connect: Connect, guest_process: GuestProcess
) -> None:
    launcher, host = connect(), connect()
    guest_process.register(launcher)
    launcher.must(Type.BIND_VIRQ, virq=VIRQ_DOM_EXC)
    port = host.must(Type.ALLOC_UNBOUND, dom=1, remote_dom=0).port
    bound = host.must(Type.BIND_INTERDOMAIN, remote_dom=1, remote_port=port)
    info = host.must(Type.DOMAIN_INFO, dom=1).domain
    assert (info.domid, info.pid) == (1, guest_process.process.pid)
    guest_process.end()
    assert heard(launcher.fds[0])
    assert host.call(Type.DOMAIN_INFO, dom=1).error == errno.ESRCH
    assert host.must(Type.STATUS, port=bound.port).status == State.UNBOUND


def test_shutdown_is_told_and_kept(
    connect: Connect, guest_process: GuestProcess
) -> None:
    launcher = connect()
    guest_process.register(launcher)
    launcher.must(Type.BIND_VIRQ, virq=VIRQ_DOM_EXC)
    death = os.dup(launcher.fds[0])
    launcher.must(Type.SHUTDOWN, dom=1, value=(3, 0))
    assert heard(death)
    os.close(death)
    info = launcher.must(Type.DOMAIN_INFO, dom=1).domain
    assert info.flags & abi.EVTCHND_DOMAIN_SHUTDOWN
    assert info.shutdown == 3
    launcher.must(Type.UNREGISTER, dom=1)
    assert launcher.call(Type.DOMAIN_INFO, dom=1).error == errno.ESRCH


def test_a_process_is_one_domain(
    connect: Connect, guest_process: GuestProcess
) -> None:
    launcher = connect()
    guest_process.register(launcher)
    record = DomainRecord(2, nr_ports=4096, nr_vcpus=1)
    again = launcher.call(Type.REGISTER, [guest_process.pidfd], domain=record)
    assert again.error == errno.EBUSY


def test_a_guest_cannot_have_all_descriptors(
    connect: Connect, guest_process: GuestProcess
) -> None:
    guest_process.register(connect())
    made = 0
    while "error=0 " in guest_process.ask("call ALLOC_UNBOUND remote_dom=0"):
        made += 1
    assert made == 1023
    assert guest_process.ask("call BIND_IPI vcpu=0").startswith(
        f"error={errno.ENOSPC} "
    )


def test_nothing_is_left_open(connect: Connect, daemon: Daemon) -> None:
    first = connect()
    before = daemon.nr_fds()
    for _ in range(3):
        with Client(daemon.path) as one, Client(daemon.path) as other:
            port = one.must(Type.ALLOC_UNBOUND, remote_dom=0).port
            other.must(Type.BIND_INTERDOMAIN, remote_dom=0, remote_port=port)
            one.must(Type.BIND_VIRQ, virq=VIRQ_DOM_EXC)
        # Their ends are noticed one after the other; the VIRQ is free then.
        while first.call(Type.BIND_VIRQ, virq=VIRQ_DOM_EXC).error:
            pass
        first.must(Type.RESET, dom=0)
    while daemon.nr_fds() != before:
        first.must(Type.STATUS, port=1)


NOBODY = 65534


def test_a_user_may_launch_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: a connection of another user's")
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o711)
    with ExitStack() as stack:
        user = pwd.getpwuid(NOBODY).pw_name
        daemon = stack.enter_context(open_daemon(tmp_path, "--launcher", user))
        daemon.path.chmod(0o666)
        root = stack.enter_context(Client(daemon.path))
        os.seteuid(NOBODY)
        stack.callback(os.seteuid, 0)
        client = stack.enter_context(Client(Path(daemon.path.name)))
        os.seteuid(0)
        other = stack.enter_context(subprocess.Popen(["sleep", "infinity"]))
        stack.callback(other.kill)
        own, others = os.pidfd_open(os.getpid()), os.pidfd_open(other.pid)
        stack.callback(os.close, own)
        stack.callback(os.close, others)
        record = partial(DomainRecord, nr_ports=4096, nr_vcpus=1, nr_pages=64)
        client.must(Type.REGISTER, [own], domain=record(1))
        root.must(Type.REGISTER, [others], domain=record(2))
        for refused in (
            client.call(Type.REGISTER, [others], domain=record(3)),
            client.call(Type.UNREGISTER, dom=2),
            client.call(Type.UNREGISTER, dom=3),
            client.call(Type.SHUTDOWN, dom=2),
            client.call(Type.RAISE_VIRQ, virq=VIRQ_DOM_EXC),
        ):
            assert refused.error == errno.EPERM
        client.must(Type.SHUTDOWN, dom=1, value=(3, 0))
        client.must(Type.UNREGISTER, dom=1)
        root.must(Type.DOMAIN_INFO, dom=2)
