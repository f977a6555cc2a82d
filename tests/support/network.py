# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian guests with network interfaces, netbackd between them, all in a
network namespace of the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP, library, open_daemon
from tests.support.net.namespace import Namespace, open_namespace
from tests.support.services import INIT, POWEROFF, Guest, Host
from xenner.xenstore import Xenstore

NETFRONT = TOP / "build/debian/modules/xen-netfront.ko"
_NOTHING: Mapping[str, bytes] = {}
# 802.1Q, in the order in which they need each other.
_VLAN_MODULES = ("llc", "stp", "garp", "mrp", "8021q")


def programs(*names: str) -> dict[str, bytes]:
    """Of the host, with their libraries, as initramfs files."""
    files: dict[str, bytes] = {}
    for name in names:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"packages: {name} is not installed")
        files[f"bin/{name}"] = Path(path).read_bytes()
        listing = subprocess.run(
            ["ldd", path], capture_output=True, text=True, check=True
        ).stdout
        for found in re.findall(r"(/\S+) \(0x", listing):
            files[found.removeprefix("/")] = Path(found).read_bytes()
    return files


def make_network_disk(
    directory: Path, files: Mapping[str, bytes] = _NOTHING
) -> Path:
    """An initramfs whose shell has iperf3, drivers for the network, and
    `files`."""
    if not NETFRONT.exists():
        pytest.skip("packages: xen-netfront.ko is not unpacked")
    path = directory / "initramfs"
    modules = ("xen-netfront", *_VLAN_MODULES)
    drivers = {
        f"lib/{name}.ko": (NETFRONT.parent / f"{name}.ko").read_bytes()
        for name in modules
    }
    path.write_bytes(
        make_initramfs(
            INIT,
            {
                "sbin/poweroff": POWEROFF,
                **drivers,
                **programs("iperf3"),
                **files,
            },
        )
    )
    return path


def add_vlan(guest: Guest, vid: int, address: str) -> None:
    """An interface of the guest's on eth0, with tags."""
    for name in _VLAN_MODULES:
        guest.do(f"insmod /lib/{name}.ko")
    guest.do(f"ip link add link eth0 name vlan{vid} type vlan id {vid}")
    guest.do(f"ip link set vlan{vid} up")
    guest.do(f"ip addr add {address} dev vlan{vid}")


@contextmanager
def iperf_server(net: Namespace, address: str) -> Iterator[None]:
    """iperf3 on the host side for one client."""
    command = net.command("iperf3", "-s", "-1", "-B", address)
    with subprocess.Popen(
        ["stdbuf", "-oL", *command], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        try:
            while b"listening" not in server.stdout.readline():
                assert server.poll() is None
            yield
        finally:
            server.kill()


def iperf(guest: Guest, *words: str) -> dict[str, float]:
    """A run of iperf3's client in a guest: its sums."""
    said = guest.do(f"iperf3 -J {' '.join(words)}")
    end = json.loads(said[said.index("{") : said.rindex("}") + 1])["end"]
    sums: dict[str, float] = end["sum" if "-u" in words else "sum_received"]
    return sums


def iperf_between(
    sender: Guest, taker: Guest, address: str, *words: str
) -> dict[str, float]:
    """The same, with the server in another guest."""
    # Not beside its shell: that would end when a child does.
    taker.type("iperf3 -s -1; echo SERVED")
    taker.wait_for("Server listening")
    sums = iperf(sender, "-c", address, *words)
    taker.wait_for("SERVED")
    return sums


def ping(guest: Guest, *words: str) -> None:
    """All of them come back."""
    said = guest.do(f"ping -c 3 -W 5 {' '.join(words)}")
    assert " 0% packet loss" in said, said


@dataclass(frozen=True, slots=True)
class Vif:
    """A guest's interface number 0 in the store."""

    socket: Path
    domid: int

    @property
    def front(self) -> str:
        return f"/local/domain/{self.domid}/device/vif/0"

    @property
    def back(self) -> str:
        return f"/local/domain/0/backend/vif/{self.domid}/0"

    @property
    def name(self) -> str:
        return f"vif{self.domid}.0"

    @property
    def mac(self) -> str:
        return f"00:16:3e:00:{self.domid >> 8:02x}:{self.domid & 255:02x}"

    def add(self, **nodes: object) -> None:
        """As libxl writes it: both ends at once."""
        ends: list[tuple[str, tuple[str, str], dict[str, object]]] = [
            (
                self.front,
                (f"n{self.domid}", "r0"),
                {
                    "backend": self.back,
                    "backend-id": 0,
                    "state": 1,
                    "handle": 0,
                    "mac": self.mac,
                },
            ),
            (
                self.back,
                ("n0", f"r{self.domid}"),
                {
                    "frontend": self.front,
                    "frontend-id": self.domid,
                    "online": 1,
                    "state": 1,
                    "script": "/etc/xen/scripts/vif-bridge",
                    "mac": self.mac,
                    "handle": 0,
                    "type": "vif",
                    "hotplug-status": "",
                    **nodes,
                },
            ),
        ]
        with Xenstore(self.socket) as store:
            tx = store.start_transaction()
            for top, perms, values in ends:
                store.write(top, "", tx=tx)
                store.set_perms(top, *perms, tx=tx)
                for name, value in values.items():
                    store.write(f"{top}/{name}", str(value), tx=tx)
                    store.set_perms(f"{top}/{name}", *perms, tx=tx)
            assert store.end_transaction(tx, commits=True)

    def remove(self) -> None:
        """As libxl unplugs it: the backend's state first, then it waits."""
        with Xenstore(self.socket) as store:
            store.write(f"{self.back}/online", "0")
            store.write(f"{self.back}/state", "5")
            deadline = time.monotonic() + limit_s(30)
            while store.read(f"{self.back}/state") != "6":
                assert time.monotonic() < deadline
            store.remove(self.back)
            store.remove(self.front)


@dataclass
class NetworkHost(Host):
    """Daemons, netbackd among them, and guests by their domids."""

    net: Namespace = field(default_factory=lambda: Namespace(os.getpid()))
    netbackd: subprocess.Popen[bytes] | None = None

    def start_netbackd(self) -> None:
        with (self.directory / "netbackd.log").open("ab") as log:
            self.netbackd = subprocess.Popen(
                self.net.command(sys.executable, "-m", "netbackd"),
                cwd=TOP,
                env={
                    **self.evtchnd.environment(),
                    "XENSTORED_PATH": str(self.socket),
                },
                stderr=log,
            )

    def kill_netbackd(self) -> None:
        assert self.netbackd is not None
        self.netbackd.kill()
        self.netbackd.wait()
        self.netbackd = None

    def log(self) -> str:
        return (self.directory / "netbackd.log").read_text()

    def boot_guest(self, domid: int, *options: str, **nodes: object) -> Guest:
        """A guest with an interface, its driver loaded."""
        guest = Guest(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "xennerd.standalone"),
                    *("-kernel", self.kernel, "-initrd", self.disk),
                    *("-append", "console=hvc0 panic=-1 quiet"),
                    *("-runtime-dir", self.directory, "-domid", str(domid)),
                    *("-name", f"guest{domid}"),
                    *("-evtchnd", self.evtchnd.path, "-xenstore", self.socket),
                    *options,
                ],
                cwd=TOP,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        self.guests.append(guest)
        guest.wait_for("XENNER-INIT")
        vif = self.vif(domid)
        vif.add(**nodes)
        guest.do("insmod /lib/xen-netfront.ko")
        guest.do("until [ -e /sys/class/net/eth0 ]; do :; done")
        return guest

    def vif(self, domid: int) -> Vif:
        return Vif(self.socket, domid)

    def close(self) -> None:
        super().close()
        if self.netbackd is not None:
            self.kill_netbackd()


@contextmanager
def open_network(
    directory: Path, kernel: Path, disk: Path
) -> Iterator[NetworkHost]:
    """evtchnd, a store and netbackd; guests end by the end."""
    library("xengnttab")
    with ExitStack() as stack:
        net = stack.enter_context(open_namespace())
        evtchnd = stack.enter_context(open_daemon(directory))
        host = NetworkHost(directory, evtchnd, kernel, disk, net=net)
        stack.callback(host.close)
        host.start_store()
        host.start_netbackd()
        yield host
        host.end_guests()
