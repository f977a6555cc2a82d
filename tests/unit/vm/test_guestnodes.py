# SPDX-License-Identifier: GPL-2.0-or-later
"""The nodes of a guest are those that libxl writes."""

import uuid
from dataclasses import replace

import pytest

from xenner.types import Domid, Mfn, Port
from xennerd.nodes.guest import Guest, all_paths, guest_nodes

HANDLE = uuid.UUID("12345678-9abc-4def-8123-456789abcdef")
GUEST = Guest(
    domid=Domid(7),
    name="web",
    handle=HANDLE,
    memory_kib=262144,
    nr_vcpus=2,
    store_mfn=Mfn(4097),
    store_port=Port(1),
    console_mfn=Mfn(4098),
    console_port=Port(2),
    kernel="/boot/vmlinuz",
    ramdisk="/boot/initrd",
    cmdline="console=hvc0",
)
READ_ONLY, OWN, HIDDEN = ("n0", "r7"), ("n7",), ("n0",)
D = "/local/domain/7"
BACKEND = "/local/domain/0/backend/console/7/0"
VM = f"/vm/{HANDLE}"
# tools/libs/light/libxl_create.c, libxl_dom.c, libxl_console.c: path, value,
# who may what.
LIBXL = {
    VM: ("", READ_ONLY),
    f"{VM}/uuid": (str(HANDLE), READ_ONLY),
    f"{VM}/name": ("web", READ_ONLY),
    f"{VM}/image": ("", READ_ONLY),
    f"{VM}/image/ostype": ("linux", READ_ONLY),
    f"{VM}/image/kernel": ("/boot/vmlinuz", READ_ONLY),
    f"{VM}/image/ramdisk": ("/boot/initrd", READ_ONLY),
    f"{VM}/image/cmdline": ("console=hvc0", READ_ONLY),
    f"{VM}/start_time": ("1700000000.25", READ_ONLY),
    "/libxl/7": ("", HIDDEN),
    "/libxl/7/type": ("pv", HIDDEN),
    "/libxl/7/device": ("", HIDDEN),
    D: ("", READ_ONLY),
    f"{D}/vm": (VM, READ_ONLY),
    f"{D}/name": ("web", READ_ONLY),
    f"{D}/domid": ("7", READ_ONLY),
    f"{D}/cpu": ("", READ_ONLY),
    f"{D}/cpu/0": ("", READ_ONLY),
    f"{D}/cpu/0/availability": ("online", READ_ONLY),
    f"{D}/cpu/1": ("", READ_ONLY),
    f"{D}/cpu/1/availability": ("online", READ_ONLY),
    f"{D}/memory": ("", READ_ONLY),
    f"{D}/memory/static-max": ("262144", READ_ONLY),
    f"{D}/memory/target": ("262144", READ_ONLY),
    f"{D}/memory/videoram": ("0", READ_ONLY),
    f"{D}/device": ("", READ_ONLY),
    f"{D}/device/suspend": ("", READ_ONLY),
    f"{D}/device/suspend/event-channel": ("", OWN),
    f"{D}/control": ("", READ_ONLY),
    f"{D}/control/platform-feature-multiprocessor-suspend": ("1", READ_ONLY),
    f"{D}/control/platform-feature-xs_reset_watches": ("1", READ_ONLY),
    f"{D}/control/shutdown": ("", OWN),
    f"{D}/control/feature-poweroff": ("", OWN),
    f"{D}/control/feature-reboot": ("", OWN),
    f"{D}/control/feature-suspend": ("", OWN),
    f"{D}/control/sysrq": ("", OWN),
    f"{D}/data": ("", OWN),
    f"{D}/drivers": ("", OWN),
    f"{D}/feature": ("", OWN),
    f"{D}/attr": ("", OWN),
    f"{D}/error": ("", OWN),
    f"{D}/store": ("", READ_ONLY),
    f"{D}/store/port": ("1", READ_ONLY),
    f"{D}/store/ring-ref": ("4097", READ_ONLY),
    f"{D}/console": ("", READ_ONLY),
    f"{D}/console/backend": (BACKEND, READ_ONLY),
    f"{D}/console/backend-id": ("0", READ_ONLY),
    f"{D}/console/limit": ("1048576", READ_ONLY),
    f"{D}/console/type": ("xenconsoled", READ_ONLY),
    f"{D}/console/output": ("pty", READ_ONLY),
    f"{D}/console/tty": ("", READ_ONLY),
    f"{D}/console/port": ("2", READ_ONLY),
    f"{D}/console/ring-ref": ("4098", READ_ONLY),
    BACKEND: ("", READ_ONLY),
    f"{BACKEND}/frontend": (f"{D}/console", READ_ONLY),
    f"{BACKEND}/frontend-id": ("7", READ_ONLY),
    f"{BACKEND}/online": ("1", READ_ONLY),
    f"{BACKEND}/state": ("1", READ_ONLY),
    f"{BACKEND}/protocol": ("vt100", READ_ONLY),
}


def test_nodes_values_and_rights_are_libxls() -> None:
    nodes = list(guest_nodes(GUEST, now_s=1700000000.25))
    written = {node.path: (node.value, node.perms) for node in nodes}
    assert written == LIBXL
    assert len(nodes) == len(written), "a node is written twice"


def test_a_console_that_others_must_not_touch() -> None:
    nodes = guest_nodes(replace(GUEST, console_type="xenner"))
    values = {node.path: node.value for node in nodes}
    assert values[f"{D}/console/type"] == "xenner"


def test_parents_come_first() -> None:
    """Else the store would make them, with rights of its own choice."""
    seen = {"/vm", "/libxl", "/local/domain", "/local/domain/0/backend/console"}
    seen.add("/local/domain/0/backend/console/7")
    for node in guest_nodes(GUEST):
        assert node.path.rpartition("/")[0] in seen, node.path
        seen.add(node.path)


@pytest.mark.parametrize("nr_vcpus", [1, 3])
def test_a_node_for_each_vcpu(nr_vcpus: int) -> None:
    nodes = guest_nodes(replace(GUEST, nr_vcpus=nr_vcpus))
    numbers = [n.path for n in nodes if n.path.endswith("/availability")]
    assert numbers == [f"{D}/cpu/{n}/availability" for n in range(nr_vcpus)]


def test_what_is_removed_is_all_that_was_written() -> None:
    tops = all_paths(GUEST)
    for node in guest_nodes(GUEST):
        assert any(
            node.path == top or node.path.startswith(f"{top}/") for top in tops
        ), node.path


def test_what_it_can_grow_to() -> None:
    guest = replace(GUEST, max_memory_kib=1 << 20)
    found = {node.path: node.value for node in guest_nodes(guest)}
    assert found[f"{D}/memory/static-max"] == "1048576"
    assert found[f"{D}/memory/target"] == "262144"
