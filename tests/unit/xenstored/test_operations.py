# SPDX-License-Identifier: GPL-2.0-or-later
"""Each operation: its replies, its errors, and who may."""

import pytest

from tests.support.storeclient import Client, refused
from xenstored.store import Store
from xenstored.wire import MessageType as Is


@pytest.mark.parametrize(
    "path",
    [
        *(
            b"",
            b"//",
            b"/a/",
            b"/a//b",
            b"/a.b",
            b"/a b",
            b"a/",
            b"@",
            b"/\xe4",
        ),
        *(b"@releaseDomain", b"/" + b"a" * 3072, b"a" * 2049),
    ],
)
def test_forbidden_paths(dom0: Client, path: bytes) -> None:
    refused("EINVAL", lambda: dom0.read(path))
    refused("EINVAL", lambda: dom0.write(path, b"x"))
    refused("EINVAL", lambda: dom0.mkdir(path))


@pytest.mark.parametrize(
    "path", [b"/" + b"a" * 3071, b"/a-_@Z9/b", b"/" + b"/".join([b"a"] * 1000)]
)
def test_permitted_paths(dom0: Client, path: bytes) -> None:
    dom0.write(path, b"\0\xff")
    assert dom0.read(path) == b"\0\xff"


def test_relative_paths_are_below_the_domain(
    dom0: Client, guest: Client
) -> None:
    guest.write(b"x/y", b"1")
    assert dom0.read(b"/local/domain/3/x/y") == b"1"
    dom0.write(b"x", b"0")
    assert dom0.read(b"/local/domain/0/x") == b"0"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        *((Is.READ, b""), (Is.READ, b"/a"), (Is.READ, b"/\0x\0")),
        *((Is.WRITE, b"/a"), (Is.SET_PERMS, b"/\0"), (Is.WATCH, b"/\0")),
        *((Is.SET_PERMS, b"/\0x3\0"), (Is.SET_PERMS, b"/\0n\0")),
        *((Is.SET_PERMS, b"/\0n65536\0"), (Is.SET_PERMS, b"/\0r-1\0")),
        *((Is.WATCH, b"/\0t\0-1\0"), (Is.WATCH, b"/\0t\0001\0x\0")),
        *((Is.UNWATCH, b"/\0"), (Is.UNWATCH, b"/\0t\0x\0")),
        *((Is.TRANSACTION_END, b"X\0"), (Is.DIRECTORY_PART, b"/\0")),
        *((Is.DIRECTORY_PART, b"/\0x\0"), (Is.GET_DOMAIN_PATH, b"x\0")),
        *((Is.INTRODUCE, b"1\0002\0"), (Is.INTRODUCE, b"1\0002\0000\0")),
        *((Is.INTRODUCE, b"x\0002\0003\0"), (Is.RELEASE, b"0\0")),
        *((Is.RELEASE, b"99999\0"), (Is.CONTROL, b"nonsense\0")),
        *((Is.CONTROL, b""), (Is.CONTROL, b"quota\0set\0nodes\0000\0")),
        *((Is.CONTROL, b"quota\0set\0no\0001\0"), (Is.RM, b"/\0")),
        (Is.SET_TARGET, b"1\0"),
    ],
)
def test_malformed_is_einval(dom0: Client, kind: Is, payload: bytes) -> None:
    refused("EINVAL", lambda: dom0.ask_raw(kind, payload))


@pytest.mark.parametrize("kind", [15, 16, 20, 23, 0xFFFF])
def test_unknown_types_are_enosys(dom0: Client, kind: int) -> None:
    refused("ENOSYS", lambda: dom0.ask_raw(kind, b"/\0"))


def test_what_does_not_exist(dom0: Client) -> None:
    refused("ENOENT", lambda: dom0.read(b"/no"))
    refused("ENOENT", lambda: dom0.rm(b"/no/where"))
    dom0.rm(b"/no")
    refused("ENOENT", lambda: dom0.ask(Is.UNWATCH, b"/", b"t"))
    refused("ENOENT", lambda: dom0.read(b"/", tx=77))
    refused("ENOENT", lambda: dom0.ask(Is.TRANSACTION_END, b"T"))
    refused("ENOENT", lambda: dom0.ask(Is.RELEASE, b"9"))
    refused("ENOENT", lambda: dom0.ask(Is.SET_TARGET, b"9", b"8"))
    refused("ENOENT", lambda: dom0.ask(Is.CONTROL, b"quota", b"9"))


def test_directory_keeps_the_order_of_creation(dom0: Client) -> None:
    for name in (b"z", b"a", b"m"):
        dom0.mkdir(b"/d/" + name)
    assert dom0.directory(b"/d") == [b"z", b"a", b"m"]
    assert dom0.directory(b"/d/a") == []


def test_long_directory_comes_in_parts(dom0: Client) -> None:
    names = [b"name-%d" % number for number in range(2000)]
    for name in names:
        dom0.mkdir(b"/d/" + name)
    refused("E2BIG", lambda: dom0.directory(b"/d"))
    got, generations = b"", set()
    while not got.endswith(b"\0\0"):
        reply = dom0.ask(Is.DIRECTORY_PART, b"/d", b"%d" % len(got))
        generation, _, part = reply.partition(b"\0")
        generations.add(generation)
        got += part
    assert got == b"".join(name + b"\0" for name in names) + b"\0"
    assert len(generations) == 1
    dom0.mkdir(b"/d/new")
    assert dom0.ask(Is.DIRECTORY_PART, b"/d", b"0").split(b"\0")[0] not in (
        generations
    )
    assert dom0.ask(Is.DIRECTORY_PART, b"/d", b"999999")[-2:] == b"\0\0"


def test_reply_as_large_as_can_be(dom0: Client) -> None:
    value = bytes(4096 - len(b"/a\0"))
    dom0.write(b"/a", value)
    assert dom0.read(b"/a") == value


# Permissions


def test_new_nodes_inherit_and_belong_to_their_maker(
    dom0: Client, guest: Client
) -> None:
    guest.write(b"x", b"")
    assert dom0.get_perms(b"/local/domain/3/x") == [b"n3", b"r4"]
    dom0.write(b"/local/domain/3/y", b"")
    assert dom0.get_perms(b"/local/domain/3/y") == [b"n3", b"r4"]
    dom0.set_perms(b"/local/domain/3", b"b0", b"w3")
    guest.write(b"z", b"")
    assert dom0.get_perms(b"/local/domain/3/z") == [b"b3", b"w3"]


@pytest.mark.parametrize("path", [b"/secret", b"/secret/not", b"/nothing"])
def test_guest_without_permission(
    store: Store, dom0: Client, path: bytes
) -> None:
    guest = Client(store, 3)
    dom0.write(b"/secret", b"1")
    refused("EACCES", lambda: guest.read(path))
    refused("EACCES", lambda: guest.directory(path))
    refused("EACCES", lambda: guest.get_perms(path))
    refused("EACCES", lambda: guest.write(path, b""))
    refused("EACCES", lambda: guest.mkdir(path))
    refused("EACCES", lambda: guest.rm(path))
    refused("EACCES", lambda: guest.set_perms(path, b"n3"))
    assert dom0.read(b"/secret") == b"1"


def test_read_and_write_are_separate(store: Store, dom0: Client) -> None:
    guest = Client(store, 3)
    dom0.write(b"/r", b"1")
    dom0.set_perms(b"/r", b"n0", b"r3")
    assert guest.read(b"/r") == b"1"
    refused("EACCES", lambda: guest.write(b"/r", b"2"))
    refused("ENOENT", lambda: guest.read(b"/r/below"))
    dom0.write(b"/w", b"1")
    dom0.set_perms(b"/w", b"w0")
    guest.write(b"/w", b"2")
    refused("EACCES", lambda: guest.read(b"/w"))
    refused("EACCES", lambda: guest.set_perms(b"/w", b"n3"))


def test_owner_cannot_give_away(dom0: Client, guest: Client) -> None:
    guest.write(b"x", b"")
    guest.set_perms(b"x", b"r3", b"b5")
    refused("EPERM", lambda: guest.set_perms(b"x", b"n4"))
    assert dom0.get_perms(b"/local/domain/3/x") == [b"r3", b"b5"]


def test_target_lends_its_rights(
    store: Store, dom0: Client, guest: Client
) -> None:
    store.introduce(9, 1, 1)
    stub = Client.ring(store, 9)
    guest.write(b"x", b"1")
    refused("EACCES", lambda: stub.read(b"/local/domain/3/x"))
    dom0.ask(Is.SET_TARGET, b"9", b"3")
    assert stub.read(b"/local/domain/3/x") == b"1"
    stub.write(b"/local/domain/3/x", b"2")
    dom0.ask(Is.RELEASE, b"3")
    assert stub.connection.target is None


@pytest.mark.parametrize(
    "kind",
    [
        *(Is.CONTROL, Is.INTRODUCE, Is.RELEASE, Is.RESUME, Is.SET_TARGET),
        Is.IS_DOMAIN_INTRODUCED,
    ],
)
def test_what_guests_may_not(guest: Client, kind: Is) -> None:
    refused("EACCES", lambda: guest.ask(kind, b"3", b"3", b"3"))


# Domains


def test_life_of_a_domain(store: Store, dom0: Client) -> None:
    attached, detached = [], []
    store.attach = lambda domain: attached.append((domain.gfn, domain.port))
    store.detach = lambda domain: detached.append(domain.domid)
    assert dom0.ask(Is.IS_DOMAIN_INTRODUCED, b"3") == b"F\0"
    assert dom0.ask(Is.IS_DOMAIN_INTRODUCED, b"0") == b"T\0"
    assert dom0.ask(Is.INTRODUCE, b"3", b"-1", b"5") == b"OK\0"
    assert dom0.ask(Is.IS_DOMAIN_INTRODUCED, b"3") == b"T\0"
    assert dom0.ask(Is.GET_DOMAIN_PATH, b"3") == b"/local/domain/3\0"
    guest = Client.ring(store, 3)
    guest.watch(b"/", b"t")
    # Again: a new event channel, and the guest begins anew.
    dom0.ask(Is.INTRODUCE, b"3", b"-1", b"6")
    assert attached == [(-1, 5), (-1, 6)]
    assert guest.connection.watches == {}
    dom0.ask(Is.RESUME, b"3")
    dom0.ask(Is.RELEASE, b"3")
    assert detached == [3, 3]
    assert dom0.ask(Is.IS_DOMAIN_INTRODUCED, b"3") == b"F\0"


def test_ring_that_cannot_be_had(store: Store, dom0: Client) -> None:
    def attach(domain: object) -> None:
        raise PermissionError(13, "no grant")

    store.attach = attach
    refused("EACCES", lambda: dom0.ask(Is.INTRODUCE, b"3", b"1", b"5"))
    assert store.domains == {}


def test_released_domain_leaves_nothing(
    store: Store, dom0: Client, guest: Client
) -> None:
    guest.write(b"x/y", b"1")
    dom0.write(b"/local/domain/3/x/z", b"1")
    dom0.write(b"/shared", b"1")
    dom0.set_perms(b"/shared", b"n0", b"b3", b"r4")
    dom0.ask(Is.RELEASE, b"3")
    refused("ENOENT", lambda: dom0.directory(b"/local/domain/3"))
    assert dom0.get_perms(b"/shared") == [b"n0", b"r4"]
    assert not store.tree.nr_nodes.get(3)


# CONTROL


def test_control(store: Store, dom0: Client) -> None:
    assert b"quota" in dom0.ask(Is.CONTROL, b"help")
    assert dom0.ask(Is.CONTROL, b"check") == b"OK\0"
    assert dom0.ask(Is.CONTROL, b"print", b"hello") == b"OK\0"
    assert b"nodes" in dom0.ask(Is.CONTROL, b"quota")
    dom0.ask(Is.CONTROL, b"quota", b"set", b"node-size", b"77")
    assert store.quotas.node_size == 77
    store.introduce(3, 1, 1)
    assert b"nodes            :        0" in dom0.ask(
        Is.CONTROL, b"quota", b"3"
    )


def test_log_of_requests(
    dom0: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert b"requests: off" in dom0.ask(Is.CONTROL, b"log")
    dom0.ask(Is.CONTROL, b"log", b"on")
    dom0.mkdir(b"/seen")
    dom0.ask(Is.CONTROL, b"log", b"-requests")
    dom0.mkdir(b"/not-seen")
    assert "b'/seen" in caplog.text
    assert "not-seen" not in caplog.text
    refused("EINVAL", lambda: dom0.ask(Is.CONTROL, b"log", b"loud"))
