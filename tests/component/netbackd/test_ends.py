# SPDX-License-Identifier: GPL-2.0-or-later
"""A tap is its device's, whatever it is called and whoever made it, and there
is none without a device."""

from pathlib import Path

from tests.component.netbackd.frames import frame
from tests.component.netbackd.traffic import OK, next_frame, receive, send
from tests.support.net.rig import Frontend, Rig
from xenner.xenbus import XenbusState

_TAKEN = "there is an interface of that name"


def _plugged(rig: Rig, domid: int, **nodes: object) -> Frontend:
    frontend = rig.start_frontend(domid)
    frontend.plug(**nodes)
    return frontend


def _connected(rig: Rig, domid: int, name: str, **nodes: object) -> Frontend:
    """With a tap that is called so."""
    frontend = _plugged(rig, domid, vifname=name, **nodes)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    frontend.publish(1)
    frontend.wait_backend(XenbusState.CONNECTED)
    return frontend


def _reaches(rig: Rig, frontend: Frontend, tap: str) -> None:
    data = frame(b"there" * 20)
    with rig.net.packets(tap) as raw:
        assert send(frontend, data) == OK
        assert next_frame(raw) == data
        raw.send(data)
        assert receive(frontend)[1] == data


def test_none_when_the_device_is_closed(rig: Rig, frontend: Frontend) -> None:
    """Whoever has seen it closed may give its name to another device."""
    frontend.leave()
    assert rig.taps() == []


def test_none_of_a_process_that_is_no_more(
    rig: Rig, frontend: Frontend
) -> None:
    frontend.close()
    rig.stop_backend()
    rig.start_backend()
    assert rig.taps() == [frontend.tap]
    frontend.leave()
    assert rig.taps() == []


def test_none_of_what_has_failed(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "vif-mine"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    for nodes in ({"script": script}, {"gatewaydev": "nowhere"}):
        frontend = _plugged(rig, 320, **nodes)
        frontend.wait_backend(XenbusState.CLOSED)
        assert rig.taps() == []
        rig.store.remove(frontend.backend)
        frontend.end()


def test_one_that_was_removed_is_made_anew(
    rig: Rig, frontend: Frontend
) -> None:
    rig.net.ip("link add xenbr0 type bridge")
    rig.store.write(f"{frontend.backend}/bridge", "xenbr0")
    rig.net.ip(f"link del {frontend.tap}")
    frontend.wait_backend(XenbusState.CLOSING)
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    # The guest boots anew.
    frontend.set_state(XenbusState.INITIALISING)
    frontend.connect()
    assert frontend.tap in rig.net.ip("-o link show master xenbr0")
    rig.net.ip(f"link set {frontend.tap} nomaster")
    _reaches(rig, frontend, frontend.tap)


def test_one_that_somebody_renames(rig: Rig, frontend: Frontend) -> None:
    rig.net.ip(f"link set {frontend.tap} down")
    rig.net.ip(f"link set {frontend.tap} name mine")
    rig.net.ip("link set mine up")
    rig.wait_node(f"{frontend.backend}/carrier", "1")
    _reaches(rig, frontend, "mine")
    frontend.leave()
    assert rig.taps() == []


def test_a_name_is_one_devices(rig: Rig) -> None:
    first = _connected(rig, 320, "web0")
    second = _plugged(rig, 321, vifname="web0")
    second.wait_backend(XenbusState.CLOSED)
    assert _TAKEN in (second.node("hotplug-error") or "")
    _reaches(rig, first, "web0")
    first.leave()
    # Another wish, another try.
    rig.store.write(f"{second.backend}/rate", "0,0")
    second.wait_backend(XenbusState.INIT_WAIT)
    assert second.node("hotplug-error") == ""
    assert rig.taps() == ["web0"]


def test_a_name_of_a_device_that_is_gone(rig: Rig) -> None:
    """Its nodes were removed at once: the next may come first."""
    for domid in range(320, 324):
        frontend = _connected(rig, domid, "web0")
        _reaches(rig, frontend, "web0")
        rig.store.remove(frontend.backend)


def test_a_tap_of_somebody_elses(rig: Rig) -> None:
    words = "mode tap multi_queue vnet_hdr"
    rig.net.ip(f"tuntap add {words} name vif320.0")
    frontend = _plugged(rig, 320)
    frontend.wait_backend(XenbusState.CLOSED)
    assert _TAKEN in (frontend.node("hotplug-error") or "")
    rig.store.remove(frontend.backend)
    other = _plugged(rig, 321)
    other.connect()
    other.leave()
    assert rig.taps() == ["vif320.0"]
