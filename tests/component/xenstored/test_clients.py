# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients as they are: Debian's xenstore-utils and PyPI's pyxs."""

import shutil
import subprocess

import pytest

from tests.support.store import PATIENCE_S, StoreProcess

HOME = "/local/domain/3"


def test_write_read_list_remove(store: StoreProcess) -> None:
    store.run("xenstore-write", f"{HOME}/name", "one", f"{HOME}/x/y", "2")
    assert store.run("xenstore-read", f"{HOME}/name").stdout == "one\n"
    assert store.run("xenstore-list", HOME).stdout.split() == ["name", "x"]
    assert store.run("xenstore-exists", HOME).returncode == 0
    store.run("xenstore-rm", HOME)
    assert store.run("xenstore-exists", HOME, check=False).returncode == 1
    gone = store.run("xenstore-read", f"{HOME}/name", check=False)
    assert gone.returncode == 1
    assert "couldn't read path" in gone.stderr


def test_permissions(store: StoreProcess) -> None:
    store.run("xenstore-write", "/a/b", "1")
    store.run("xenstore-chmod", "-r", "/a", "n0", "r3", "b7")
    lines = store.run("xenstore-ls", "-fp", "/a").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["/a/b", "=", '"1"', "(n0,r3,b7)"]
    ]


def test_tree_with_a_long_directory(store: StoreProcess) -> None:
    words = [
        word
        for number in range(600)
        for word in (f"/many/node-number-{number}", str(number))
    ]
    for at in range(0, len(words), 200):
        store.run("xenstore-write", *words[at : at + 200])
    lines = store.run("xenstore-ls", "/many").stdout.splitlines()
    assert lines == [
        f'node-number-{number} = "{number}"' for number in range(600)
    ]


def test_watch(store: StoreProcess) -> None:
    if shutil.which("xenstore-watch") is None:
        pytest.skip("xenstore-utils: xenstore-watch is not installed")
    with subprocess.Popen(
        ["xenstore-watch", "-n", "3", "/a"],
        env=store.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout is not None
        try:
            assert watcher.stdout.readline() == "/a\n"
            store.run("xenstore-write", "/a/b", "1")
            assert watcher.stdout.readline() == "/a/b\n"
            store.run("xenstore-rm", "/a")
            assert watcher.stdout.readline() == "/a\n"
            assert watcher.wait(PATIENCE_S) == 0
        finally:
            watcher.kill()


def test_pyxs(store: StoreProcess) -> None:
    pyxs = pytest.importorskip("pyxs", reason="pyxs: not installed")
    path = str(store.socket_path)
    with pyxs.Client(unix_socket_path=path) as client:
        client[b"/p/q"] = b"1"
        assert client[b"/p/q"] == b"1"
        assert client.list(b"/p") == [b"q"]
        assert client.get_perms(b"/p") == [b"n0"]
        client.set_perms(b"/p", [b"b0", b"r3"])
        assert client.get_perms(b"/p") == [b"b0", b"r3"]
        assert client.get_domain_path(3) == b"/local/domain/3"
        assert not client.is_domain_introduced(3)
        client.introduce_domain(3, 1, 1)
        assert client.is_domain_introduced(3)
        client.transaction()
        client[b"/p/r"] = b"2"
        assert client.commit()
        monitor = client.monitor()
        monitor.watch(b"/p", b"token")
        events = monitor.wait()
        assert next(events) == (b"/p", b"token")
        client.delete(b"/p/q")
        assert next(events) == (b"/p/q", b"token")
        with pytest.raises(pyxs.PyXSError):
            client.read(b"/nothing")
