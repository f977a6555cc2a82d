# SPDX-License-Identifier: GPL-2.0-or-later
"""A start that waits for a guest's devices, with a real store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.store import PATIENCE_S, StoreProcess
from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenstore import Xenstore
from xenner.xldisk import parse_disk
from xenner.xlvif import parse_vif
from xennerd.vm.connecting import (
    wait_connected,
    wait_offered,
    wanted_devices,
)

DEVICES = wanted_devices(
    Domid(7),
    disks=[parse_disk("/srv/root,raw,xvda,w", line=1)],
    vifs=[parse_vif("bridge=xenbr0", devid=0, line=2)],
)
BACKEND = "/local/domain/0/backend"
VBD, VIF = f"{BACKEND}/vbd/7/51712", f"{BACKEND}/vif/7/0"


@pytest.fixture
def client(store: StoreProcess) -> Iterator[Xenstore]:
    with Xenstore(store.socket_path) as client:
        for path in (VBD, VIF):
            client.write(f"{path}/state", "1")
        yield client


def why_late(store: StoreProcess) -> str:
    with pytest.raises(HostError) as caught:
        wait_connected(store.socket_path, DEVICES, limit_s=0.2)
    return caught.value.text


def test_the_paths_are_the_backends() -> None:
    assert [device.path for device in DEVICES] == [VBD, VIF]


def test_each_is_waited_for(store: StoreProcess, client: Xenstore) -> None:
    done = threading.Event()

    def wait() -> None:
        wait_connected(store.socket_path, DEVICES, limit_s=PATIENCE_S)
        done.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    client.write(f"{VBD}/state", "2")
    client.write(f"{VIF}/state", "4")
    # What was connected once is enough.
    client.write(f"{VIF}/state", "5")
    assert not done.is_set()
    client.write(f"{VBD}/state", "4")
    client.write(f"{VIF}/state", "4")
    waiting.join(PATIENCE_S)
    assert done.is_set()


def test_what_is_there_is_not_waited_for(
    store: StoreProcess, client: Xenstore
) -> None:
    for path in (VBD, VIF):
        client.write(f"{path}/state", "4")
    wait_connected(store.socket_path, DEVICES, limit_s=0)


def test_why_one_is_late(store: StoreProcess, client: Xenstore) -> None:
    late = "xvda is not connected after 0.2 s: "
    asked = "nobody serves it: is blkbackd running?"
    assert why_late(store) == late + asked
    client.write(f"{VBD}/state", "2")
    assert why_late(store) == late + "the guest has no driver that asks for it"
    error = f"/local/domain/0/error{VBD.removeprefix('/local/domain/0')}/error"
    client.write(error, "/srv/root: No such file or directory")
    assert why_late(store) == late + "/srv/root: No such file or directory"
    client.write(f"{VBD}/state", "4")
    late = "vif 0 is not connected after 0.2 s: "
    assert why_late(store) == late + asked.replace("blk", "net")


def test_what_is_offered_may_be_connected_later(
    store: StoreProcess, client: Xenstore
) -> None:
    with pytest.raises(HostError) as caught:
        wait_offered(store.socket_path, DEVICES, limit_s=0.2)
    assert str(caught.value) == "xvda: nobody serves it: is blkbackd running?"
    client.write(f"{VBD}/state", "2")
    client.write(f"{VIF}/state", "4")
    wait_offered(store.socket_path, DEVICES, limit_s=0)


@pytest.mark.parametrize("wait", [wait_offered, wait_connected])
def test_one_that_is_refused_is_told_at_once(
    store: StoreProcess, client: Xenstore, wait: Callable[..., None]
) -> None:
    client.write(f"{VBD}/state", "4")

    def refuse() -> None:
        with Xenstore(store.socket_path) as backend:
            # As a backend writes it.
            backend.write(f"{VIF}/hotplug-error", "/none: No such file")
            backend.write(f"{VIF}/hotplug-status", "error")

    refusing = threading.Timer(0.1, refuse)
    refusing.start()
    with pytest.raises(HostError, match=r"^vif 0: /none: No such file$"):
        wait(store.socket_path, DEVICES, limit_s=PATIENCE_S * 10)
    refusing.join()


def test_other_nodes_do_not_make_it_longer(
    store: StoreProcess, client: Xenstore
) -> None:
    """Each event is a reason to look, and none to begin anew."""
    is_over = threading.Event()

    def disturb() -> None:
        with Xenstore(store.socket_path) as other:
            while not is_over.is_set():
                other.write(f"{VBD}/state", "2")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    begin_s = time.monotonic()
    try:
        why_late(store)
    finally:
        is_over.set()
        disturbing.join()
    assert time.monotonic() - begin_s < PATIENCE_S


def test_a_store_that_ends_is_said(
    store: StoreProcess, client: Xenstore
) -> None:
    store.kill()
    with pytest.raises(HostError, match="xenstore"):
        wait_connected(store.socket_path, DEVICES, limit_s=PATIENCE_S)
