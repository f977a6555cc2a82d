# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts make of a tap: the operator's own, and Xen's, unmodified."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.evtchnd import TOP, library
from tests.support.net.rig import Frontend, Rig, open_rig
from xenner.xenbus import XenbusState

_XEN = TOP / "build/xen-utils/etc/xen/scripts"
# Xen's have a log that is the host's, and fail without it.
_WITH_LOG = (
    *("unshare", "-m", "sh", "-c"),
    'mount -t tmpfs none /var/log && mkdir /var/log/xen && exec "$@"',
    "sh",
)


@pytest.fixture
def xen_rig(tmp_path: Path, frontend_program: Path) -> Iterator[Rig]:
    if not _XEN.exists():
        pytest.skip("packages: xen-utils-common is not unpacked")
    library("xengnttab")
    with open_rig(tmp_path, frontend_program, _WITH_LOG) as rig:
        yield rig


def _script(directory: Path, text: str) -> Path:
    path = directory / "vif-mine"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _plugged(rig: Rig, **nodes: object) -> Frontend:
    frontend = rig.start_frontend(320)
    frontend.plug(**nodes)
    return frontend


def test_one_of_the_operators(rig: Rig, tmp_path: Path) -> None:
    """It is run once, however often netbackd is."""
    log = tmp_path / "calls"
    script = _script(
        tmp_path,
        'echo "$* $XENBUS_TYPE $XENBUS_BASE_PATH $XENBUS_PATH '
        f'$netdev $vif $script" >>{log}\n'
        'ip link set "$vif" mtu 1300 up',
    )
    nodes = {"bridge": "nowhere", "gatewaydev": "eth9"}
    frontend = _plugged(rig, script=script, **nodes)
    frontend.connect()
    assert frontend.node("hotplug-status") == "connected"
    words = "type_if=vif vif backend backend/vif/320/0 eth9 vif320.0"
    words += f" {script}\n"
    for _ in range(2):
        assert log.read_text() == f"online {words}"
        assert "mtu 1300 " in rig.net.ip(f"link show {frontend.tap}")
        rig.kill_backend()
        rig.start_backend()
        frontend.wait_carrier()
    frontend.leave()
    assert log.read_text() == f"online {words}offline {words}"


def test_one_that_fails(rig: Rig, tmp_path: Path) -> None:
    script = _script(tmp_path, "echo no such network >&2\nexit 3")
    frontend = _plugged(rig, script=script)
    frontend.wait_backend(XenbusState.CLOSED)
    assert "no such network" in (frontend.node("hotplug-error") or "")


@contextmanager
def _killed(pid_file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_one_that_leaves_a_daemon(rig: Rig, tmp_path: Path) -> None:
    """Which holds what the script had open, and is not waited for."""
    pid = tmp_path / "pid"
    os.mkfifo(tmp_path / "never")
    text = f"(exec cat {tmp_path}/never) &\necho $! >{pid}\n"
    with _killed(pid):
        frontend = _plugged(rig, script=_script(tmp_path, text))
        frontend.wait_backend(XenbusState.INIT_WAIT)
        frontend.leave()


@pytest.mark.parametrize("vifname", ["", "web0"])
def test_xens_vif_nat(xen_rig: Rig, vifname: str) -> None:
    rig, nodes = xen_rig, {"vifname": vifname} if vifname else {}
    frontend = _plugged(rig, script=_XEN / "vif-nat", ip="10.7.0.5", **nodes)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    assert frontend.node("hotplug-status") == "connected"
    frontend.publish(1)
    frontend.wait_backend(XenbusState.CONNECTED)
    name = vifname or frontend.tap
    for count in (1, 2):
        rig.wait_log(f"connected, to {name}", count)
        assert rig.taps() == [name]
        said = rig.net.ip(f"route show dev {name}")
        assert said.startswith("10.7.0.5 ")
        assert "src 10.7.0.132" in said
        rig.kill_backend()
        rig.start_backend()
    frontend.leave()
    assert rig.taps() == []


def test_xens_vif_bridge(xen_rig: Rig, tmp_path: Path) -> None:
    """Under a name that netbackd does not take for what it does itself."""
    rig = xen_rig
    for script in _XEN.iterdir():
        (tmp_path / script.name).symlink_to(script)
    script = tmp_path / "vif-mine"
    script.symlink_to(_XEN / "vif-bridge")
    frontend = _plugged(rig, script=script, bridge="xenbr0")
    frontend.wait_backend(XenbusState.CLOSED)
    assert frontend.node("hotplug-status") == "error"
    why = f"{script}: Could not find bridge device xenbr0"
    assert frontend.node("hotplug-error") == why
    assert rig.taps() == []
    rig.net.ip("link add xenbr0 mtu 9000 type bridge")
    # Another wish, another try.
    rig.store.write(f"{frontend.backend}/vifname", "web0")
    frontend.wait_backend(XenbusState.INIT_WAIT)
    assert frontend.node("hotplug-status") == "connected"
    assert frontend.node("hotplug-error") == ""
    said = rig.net.ip("-o link show master xenbr0")
    assert "web0: " in said
    assert "mtu 9000" in said
    frontend.leave()
    assert rig.taps() == []
