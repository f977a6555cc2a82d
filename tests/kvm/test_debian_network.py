# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest with its own ssh and apt: with another guest, and through the
host's NAT with what only the host can reach."""

from __future__ import annotations

import array
import fcntl
import hashlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.kvm.capture import capturing, read_capture
from tests.support.debianguest import make_debian_root
from tests.support.diskguest import WANTS_DISKS, make_initrd, serving
from tests.support.net.namespace import Namespace, open_namespace
from tests.support.network import (
    NETFRONT,
    NetworkHost,
    iperf,
    iperf_server,
    make_network_disk,
    open_network,
    programs,
)
from tests.support.services import DOMID, Guest

# What Debian is made with, mmdebstrap, is only here.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_OTHER_DOMID = 333
_XVDA = 51712
_ROOT_BYTES = 1 << 30
_SHELL = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PS1=
stty -echo
dmesg -n 1
echo XENNER-INIT
exec sh
"""
_CMDLINE = "root=/dev/xvda init=/run/shell quiet"
# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_NAT = """\
table ip nat {
    chain out {
        type nat hook postrouting priority srcnat
        oifname "wire" masquerade
    }
}
"""
_PACKAGE = """\
Package: from-afar
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: what comes through the host's NAT
"""
_PROGRAM = "#!/bin/sh\nsha256sum </usr/share/from-afar\n"
_SOURCES = "deb [trusted=yes] http://203.0.113.2:8000/ ./\n"
_APT = (
    "apt-get -q -o Dir::Etc::sourcelist=/run/archive.list "
    "-o Dir::Etc::sourceparts=/dev/null"
)
_SSHD = (
    "chmod 600 /run/key.host /run/key.pub && mkdir -p /run/sshd && "
    "/usr/sbin/sshd -h /run/key.host -o StrictModes=no -o UsePAM=no "
    "-o AuthorizedKeysFile=/run/key.pub; "
    # It is a daemon before it listens.
    "until ss -Hlnt 'sport = 22' | grep -q :22; do sleep 0.1; done"
)
_SSH = (
    *("ssh", "-F", "none", "-T", "-o", "BatchMode=yes"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """Two guests on a bridge, 10.9.0.2 and .3; what is far knows nothing of
    them but the host's end of the wire, 203.0.113.1."""

    host: NetworkHost
    far: Namespace
    debian: Guest
    other: Guest
    directory: Path


def _make_keys(directory: Path) -> dict[str, bytes]:
    """As files for the guests: "key", "key.pub" and "key.host"."""
    for name in ("key", "key.host"):
        subprocess.run(
            [*("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"), name],
            cwd=directory,
            check=True,
        )
    names = ("key", "key.pub", "key.host")
    return {name: (directory / name).read_bytes() for name in names}


def _finish_all(net: Namespace, interface: str) -> None:
    """As a card that makes no checksums and no segments: frames are complete
    when they leave there. ethtool(8)'s -K tx off."""

    def switch() -> None:
        value = array.array("I", [_ETHTOOL_STXCSUM, 0])
        request = struct.pack(
            "16sP16x", interface.encode(), value.buffer_info()[0]
        )
        with socket.socket() as link:
            fcntl.ioctl(link, _SIOCETHTOOL, request)

    net.inside(switch)


def _lay_wire(net: Namespace, far: Namespace) -> None:
    net.ip("link add xenbr0 type bridge")
    net.ip("addr add 10.9.0.1/24 dev xenbr0")
    net.ip(f"link add wire type veth peer name wire netns {far.pid}")
    for side, number in ((net, 1), (far, 2)):
        side.ip(f"addr add 203.0.113.{number}/24 dev wire")
        side.ip("link set wire up")
        _finish_all(side, "wire")
    net.ip("link set xenbr0 up")
    net.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    net.run("nft", _NAT)


@contextmanager
def _boot_debian(
    host: NetworkHost, directory: Path, keys: dict[str, bytes]
) -> Iterator[Guest]:
    files = {
        "shell": _SHELL.encode(),
        "archive.list": _SOURCES.encode(),
        "xen-netfront.ko": NETFRONT.read_bytes(),
        **{name: keys[name] for name in ("key.pub", "key.host")},
    }
    host.disk = make_initrd(directory, host.kernel, files)
    root = directory / "root.img"
    root.touch()
    os.truncate(root, _ROOT_BYTES)
    with serving(host) as disks:
        guest = host.boot("-m", "256", cmdline=_CMDLINE, is_up=False)
        make_debian_root(root)
        guest.wait_for(WANTS_DISKS)
        disks.plug(_XVDA, "xvda", root)
        guest.wait_for("XENNER-INIT", 120)
        host.vif(DOMID).add(bridge="xenbr0")
        guest.do("insmod /run/xen-netfront.ko")
        _set_up(guest, 2)
        guest.do(_SSHD)
        yield guest
        # Its init is no systemd to be asked.
        guest.type("poweroff -f")
        assert guest.end()[0] == 0


def _set_up(guest: Guest, number: int) -> None:
    guest.do("until ip link set eth0 up; do sleep 0.1; done")
    guest.do(f"ip addr add 10.9.0.{number}/24 dev eth0")
    guest.do("ip route add default via 10.9.0.1")


@pytest.fixture(scope="module")
def site(
    usable_kvm: None,
    debian_kernel: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("debian")
    keys = _make_keys(directory)
    files = {
        **programs("ssh"),
        "etc/passwd": b"root:x:0:0::/:/bin/sh\n",
        "key": keys["key"],
    }
    disk = make_network_disk(directory, files)
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        host = stack.enter_context(
            open_network(Path(name), debian_kernel, disk)
        )
        far = stack.enter_context(open_namespace())
        _lay_wire(host.net, far)
        other = host.boot_guest(_OTHER_DOMID, bridge="xenbr0")
        _set_up(other, 3)
        other.do("chmod 600 /key")
        debian = stack.enter_context(_boot_debian(host, directory, keys))
        yield Site(host, far, debian, other, directory)


def test_ssh(site: Site) -> None:
    """From the host and from the other guest, megabytes each way."""
    data = os.urandom(1 << 20)
    key = str(site.directory / "key")
    words = (*_SSH, "-i", key, "root@10.9.0.2", "tee /root/data")
    done = subprocess.run(
        site.host.net.command(*words),
        input=data,
        capture_output=True,
        check=False,
        timeout=limit_s(60),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == data
    said = site.other.do(
        f"{' '.join(_SSH)} -i /key root@10.9.0.2 "
        "'cat /proc/sys/kernel/hostname /root/data' 2>/log | sha256sum"
    )
    name = site.debian.do("cat /proc/sys/kernel/hostname").encode()
    assert said.split()[0] == hashlib.sha256(name + data).hexdigest()


def _make_archive(directory: Path) -> str:
    """An archive with one package; its data's SHA-256."""
    tree = directory / "tree"
    for name in ("DEBIAN", "usr/bin", "usr/share"):
        (tree / name).mkdir(parents=True)
    data = os.urandom(1 << 20)
    (tree / "DEBIAN/control").write_text(_PACKAGE)
    (tree / "usr/share/from-afar").write_bytes(data)
    program = tree / "usr/bin/from-afar"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    archive = directory / "archive"
    archive.mkdir()
    deb = archive / "from-afar.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, deb],
        check=True,
        capture_output=True,
    )
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    (archive / "Packages").write_text(
        f"{_PACKAGE}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
        f"SHA256: {digest}\n"
    )
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _serving_archive(site: Site) -> Iterator[Path]:
    """By HTTP, far away; who asks for what is in a file."""
    log = site.directory / "archive.log"
    with (
        log.open("wb") as requests,
        subprocess.Popen(
            site.far.command(
                *(sys.executable, "-u", "-m", "http.server", "8000"),
                *("--directory", str(site.directory / "archive")),
            ),
            stdout=subprocess.PIPE,
            stderr=requests,
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"Serving")
        try:
            yield log
        finally:
            server.kill()


def test_a_package_through_nat(site: Site) -> None:
    digest = _make_archive(site.directory)
    trace = site.directory / "trace"
    # All that leaves the host, as it comes out of the wire.
    with capturing(site.far, "wire", trace, "src 203.0.113.1"):
        with _serving_archive(site) as log:
            site.debian.do(f"{_APT} update && {_APT} -y install from-afar")
            assert "203.0.113.1 - - [" in (said := log.read_text())
            assert 'from-afar.deb HTTP/1.1" 200' in said
        assert digest in site.debian.do("from-afar")
        for words in (["-n4M"], ["-u", "-n1M", "-b50M"]):
            with iperf_server(site.far, "203.0.113.2"):
                sums = iperf(site.other, "-c", "203.0.113.2", *words)
            assert sums["bytes"] >= 1 << 20
    # Large segments have been cut, and all sums are made.
    assert not read_capture(trace, "greater 1515")
    tcp, udp = read_capture(trace, "tcp"), read_capture(trace, "udp")
    assert tcp.count("(correct)") > 1000
    assert "incorrect" not in tcp
    assert udp.count("[udp sum ok]") > 100
    assert "bad udp cksum" not in udp
