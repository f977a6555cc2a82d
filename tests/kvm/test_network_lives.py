# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's interfaces under xennerd: over a reboot and a crash, plugged in and
out while it runs, and with a netbackd that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest

from demo.initramfs import make_initramfs
from tests.environments.rules import limit_s
from tests.kvm.ctl import Ctl
from tests.kvm.supervisor import Xennerd, open_xennerd
from tests.support.net.namespace import Namespace, open_namespace
from tests.support.network import NETFRONT
from tests.support.services import open_host

pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

# At each of its boots it asks, through its interface, what it is to do.
_INIT = b"""\
#!/bin/busybox sh
export PATH=/bin PS1=
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
insmod /lib/xen-netfront.ko
# It is there before it is connected, and cannot be up then.
until ip link set eth0 up; do sleep 0.1; done
ip addr add 10.9.0.2/24 dev eth0
while :; do nc 10.9.0.1 7000 -e sh; sleep 0.1; done
"""
# What takes longer than this is lost.
_PING = (
    "n=0; until ping -c 1 -W 1 {}; do n=$((n + 1)); [ $n -lt 60 ] || exit 1; "
    "sleep 0.1; done"
)


@dataclass(frozen=True, slots=True)
class Shell:
    """The guest's, through its interface."""

    stream: TextIO

    def tell(self, command: str) -> None:
        self.stream.write(f"{command}\n")
        self.stream.flush()

    def do(self, command: str) -> str:
        """What a command says, which succeeds."""
        self.tell(f"{{ {command}; }} 2>&1; echo DONE-$?")
        said = ""
        while not (end := re.search(r"DONE-(\d+)\n$", said)):
            line = self.stream.readline()
            assert line, said
            said += line
        assert end[1] == "0", f"{command}: {said}"
        return said[: end.start()]


@dataclass
class Site:
    """The host's side: a bridge, and what the guest is told through it."""

    net: Namespace
    ctl: Ctl
    xennerd: Xennerd
    orders: socket.socket

    @contextmanager
    def shell(self) -> Iterator[Shell]:
        """When the guest has booted, the next time."""
        connection = self.orders.accept()[0]
        connection.settimeout(limit_s(60))
        with connection, connection.makefile("rw") as stream:
            yield Shell(stream)

    def taps(self) -> list[tuple[str, str]]:
        """Each with its bridge."""
        links = json.loads(self.net.ip("-j -d link show type tun"))
        return [
            (link["ifname"], link.get("master", "")) for link in links if link
        ]

    def kill_netbackd(self) -> None:
        """xennerd starts another."""

        def pid() -> int:
            daemons = self.xennerd.ask("query-daemons")
            return int({d["name"]: d["pid"] for d in daemons}["netbackd"])

        before = pid()
        os.kill(before, signal.SIGKILL)
        self.xennerd.wait_for(lambda: pid() not in (0, before))

    def wait_no_taps(self) -> None:
        end = time.monotonic() + limit_s(60)
        while self.taps():
            assert time.monotonic() < end, self.xennerd.log()
            time.sleep(0.1)


def _listen() -> socket.socket:
    orders = socket.create_server(("10.9.0.1", 7000))
    orders.settimeout(limit_s(120))
    return orders


@pytest.fixture
def site(
    usable_kvm: None, debian_kernel: Path, tmp_path: Path
) -> Iterator[Site]:
    if not NETFRONT.exists():
        pytest.skip("packages: xen-netfront.ko is not unpacked")
    disk = tmp_path / "initramfs"
    files = {"lib/xen-netfront.ko": NETFRONT.read_bytes()}
    disk.write_bytes(make_initramfs(_INIT, files))
    (tmp_path / "web.cfg").write_text(
        f"name='web'\nkernel='{debian_kernel}'\nramdisk='{disk}'\nmemory=192\n"
        "extra='console=hvc0 panic=-1 quiet'\nvif=['bridge=xenbr0']\n"
        "on_reboot='restart'\non_crash='restart'\n"
    )
    with open_namespace() as net:
        for i in (0, 1):
            net.ip(f"link add xenbr{i} type bridge")
            net.ip(f"addr add 10.9.{i}.1/24 dev xenbr{i}")
            net.ip(f"link set xenbr{i} up")
        with (
            open_host(tmp_path, debian_kernel, disk) as host,
            open_xennerd(tmp_path, net.command()) as xennerd,
            net.inside(_listen) as orders,
        ):
            ctl = Ctl(host)
            yield Site(net, ctl, xennerd, orders)
            ctl.run("destroy", "web")


def test_the_lives_of_interfaces(site: Site, tmp_path: Path) -> None:
    ctl = site.ctl
    ctl("create", str(tmp_path / "web.cfg"))
    first, second = (f"vif{ctl('domid', 'web').strip()}.{i}" for i in (0, 1))
    # Nobody hears the end of these: the next boot has a connection of its own.
    for last_word in ("reboot -f", "echo c >/proc/sysrq-trigger"):
        with site.shell() as guest:
            assert site.taps() == [(first, "xenbr0")]
            guest.tell(last_word)
    with site.shell() as guest:
        assert site.taps() == [(first, "xenbr0")]
        for _ in range(2):
            ctl("network-attach", "web", "bridge=xenbr1")
            assert site.taps() == [(first, "xenbr0"), (second, "xenbr1")]
            guest.do("until ip link set eth1 up; do sleep 0.1; done")
            guest.do("ip addr add 10.9.1.2/24 dev eth1")
            guest.do(_PING.format("10.9.1.1"))
            ctl("network-detach", "web", "1")
            guest.do("while [ -e /sys/class/net/eth1 ]; do sleep 0.1; done")
            assert site.taps() == [(first, "xenbr0")]
        # This connection outlives it.
        site.kill_netbackd()
        guest.do(_PING.format("10.9.0.1"))
        assert site.taps() == [(first, "xenbr0")]
        guest.tell("poweroff -f")
    site.wait_no_taps()


def test_a_bridge_that_is_not_there_yet(site: Site, tmp_path: Path) -> None:
    """The guest runs, as when a bridge comes late; the person is told."""
    ctl = site.ctl
    file = str(tmp_path / "web.cfg")
    warning = "warning: vif {}: there is no bridge none (yet)\n"
    created = ctl.run("create", "-q", file, "vif=['bridge=none']")
    assert (created.returncode, created.stderr) == (0, warning.format(0))
    attached = ctl.run("network-attach", "web", "bridge=none")
    assert (attached.returncode, attached.stderr) == (0, warning.format(1))
    ctl("destroy", "web")
    site.wait_no_taps()
