# SPDX-License-Identifier: GPL-2.0-or-later
"""Every spelling of a disk and of an interface."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner.xldisk import Disk, parse_disk, vdev_number
from xenner.xlvif import Rate, Vif, parse_rate, parse_vif, vif_mac


def disk(target: str = "/dev/vg/lv", vdev: str = "xvda", **other: Any) -> Disk:
    return Disk(target=target, vdev=vdev, devid=vdev_number(vdev), **other)


@pytest.mark.parametrize(
    "text",
    [
        "/dev/vg/lv,raw,xvda,rw",
        "/dev/vg/lv,,xvda",
        "/dev/vg/lv,raw,xvda,w",
        "/dev/vg/lv, raw, xvda, rw",
        "format=raw, vdev=xvda, access=rw, target=/dev/vg/lv",
        "vdev=xvda,target=/dev/vg/lv",
        "phy:/dev/vg/lv,xvda,w",
        "file:/dev/vg/lv,xvda,w",
        "raw:/dev/vg/lv,xvda,w",
        "tap:aio:/dev/vg/lv,xvda,w",
        "tap2:tapdisk:aio:/dev/vg/lv,xvda,w",
        "phy:/dev/vg/lv,xvda:disk,w",
        "/dev/vg/lv,raw,xvda,backendtype=phy,script=block,backend=0",
        "/dev/vg/lv,raw,devtype=disk,vdev=xvda,specification=xen,trusted",
    ],
)
def test_one_disk_in_many_spellings(text: str) -> None:
    assert parse_disk(text) == disk()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/a,raw,hda,r", disk("/a", "hda", is_writable=False)),
        ("/a,raw,sda1,ro", disk("/a", "sda1", is_writable=False)),
        (
            "bps-total=1000,/a,raw,xvdb,iops-total=5",
            disk("/a", "xvdb", limits=(("iops-total", 5), ("bps-total", 1000))),
        ),
        (
            "/a.iso,raw,hdc:cdrom,r",
            disk("/a.iso", "hdc", is_writable=False, is_cdrom=True),
        ),
        (
            "/a.iso,,hdc,cdrom",
            disk("/a.iso", "hdc", is_writable=False, is_cdrom=True),
        ),
        ("/a,raw,xvdb,no-discard", disk("/a", "xvdb", discards=False)),
        (
            "/a,raw,xvdb,direct-io-safe",
            disk("/a", "xvdb", is_direct_io_safe=True),
        ),
        ("/a,raw,xvdb,untrusted", disk("/a", "xvdb", is_trusted=False)),
        ("vdev=xvdb,target=/a,b:c=d", disk("/a,b:c=d", "xvdb")),
        ("phy:vg/root,sda,w", disk("vg/root", "sda")),
        ("/a,qcow2,xvdb", disk("/a", "xvdb", format="qcow2", is_qdisk=True)),
        ("vhd:/a,xvdb,w", disk("/a", "xvdb", format="vhd", is_qdisk=True)),
        ("/a,,xvdb,backendtype=qdisk", disk("/a", "xvdb", is_qdisk=True)),
    ],
)
def test_what_a_disk_can_be(text: str, wanted: Disk) -> None:
    assert parse_disk(text) == wanted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no target"),
        ("/a,raw", "no vdev"),
        ("/a,raw,xvda,rwx", "access 'rwx'"),
        ("/a,raw,xvda,rw,more", "too many"),
        ("/a,qcow2,xvda,backendtype=phy", "needs qdisk"),
        ("/a,qcow2,xvda,iops-total=5", "qdisk has no limits"),
        ("/a,raw,xvda,iops-total=5k", "iops-total=5k: no number"),
        ("/a,raw,xvda,bps-total=-1", "no number"),
        ("/a,lz4,xvda", "no such format"),
        (",,hdc:cdrom,r", "without a medium"),
        (",empty,hdc,cdrom", "without a medium"),
        ("/a,raw,xvda,backendtype=tap", "blktap"),
        ("/a,raw,xvda,backendtype=x", "no such backendtype"),
        ("/a,raw,xvda,specification=virtio", "Xen's disks"),
        ("drbd:r0,xvda,w", "no scripts are run"),
        ("/a,raw,xvda,backend=storage", "only domain 0"),
        ("foo:/a,xvda,w", "no prefix"),
        ("/a,raw,xvda,vdev=xvdb", "vdev is given twice"),
        ("/a,raw,nosuch", "no such device"),
        ("/a,raw,sdq", "beyond the last"),
        ("/a,raw,xvda,colour=red", "no parameter"),
        ("/a,raw,xvda:floppy", "neither"),
    ],
)
def test_what_is_no_disk(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        parse_disk(text)


@pytest.mark.parametrize(
    ("vdev", "number"),
    [
        ("xvda", 51712),
        ("xvda1", 51713),
        ("xvdb", 51728),
        ("xvdq", 268439552),
        ("xvda16", 268435472),
        ("xvdaa", 268442112),
        ("sda", 2048),
        ("sdb1", 2065),
        ("hda", 768),
        ("hdb", 832),
        ("hdc1", 5633),
        ("hdd", 5696),
        ("d0", 51712),
        ("d1p3", 51731),
        ("51712", 51712),
        ("0xCa00", 51712),
        ("0x7fffffff", 0x7FFFFFFF),
    ],
)
def test_vdev_numbers(vdev: str, number: int) -> None:
    assert vdev_number(vdev) == number


MAC = "00:16:3e:01:02:0a"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Vif(0)),
        (f"mac={MAC.upper()}", Vif(0, mac=MAC)),
        ("mac=0:16:3e:1:2:a, bridge=br0", Vif(0, mac=MAC, bridge="br0")),
        ("type=vif,model=e1000", Vif(0)),
        ("ip=10.0.0.5", Vif(0, ips=("10.0.0.5",))),
        ("ip=10.0.0.5/24 fd00::1", Vif(0, ips=("10.0.0.5/24", "fd00::1"))),
        (
            "script=/etc/x y,vifname=web",
            Vif(0, script="/etc/x y", vifname="web"),
        ),
        ("mac=00-16-3E-01-02-0A", Vif(0, mac=MAC)),
        ("netdev=eth0,accel=no", Vif(0, gatewaydev="eth0")),
        # What another script is given is that script's.
        (
            "bridge=ovsbr0.100:200,script=vif-openvswitch,ip=dhcp",
            Vif(
                0,
                bridge="ovsbr0.100:200",
                script="vif-openvswitch",
                ips=("dhcp",),
            ),
        ),
        ("mtu=9000,devid=3,vlan=7", Vif(3, mtu=9000, vlan="7")),
        ("gatewaydev=eth0,backend=0", Vif(0, gatewaydev="eth0")),
        (
            "untrusted,rate=8Mb/s",
            Vif(0, is_trusted=False, rate=Rate(50000, 50000)),
        ),
    ],
)
def test_what_an_interface_can_be(text: str, wanted: Vif) -> None:
    assert parse_vif(text, devid=0) == wanted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("mac=00:16:3e", "six pairs"),
        ("mac=01:16:3e:00:00:01", "group"),
        ("type=ioemu", "emulated"),
        ("backend=net", "only domain 0"),
        ("ip=10.0.0", "not an address"),
        ("bridge=a/b", "name of a network device"),
        ("bridge=a:5,script=/x/vif-bridge", "name of a network device"),
        ("mac=00163e010203", "six pairs"),
        ("mac=00::16:3e:01:02", "six pairs"),
        ("vifname=waytoolongforadevice", "name of a network device"),
        ("vifname=web%d", "name of a network device"),
        ("rate=fast", "as 10Mb/s"),
        ("mtu=12", "must be 68"),
        ("mtu=x", "not a number"),
        ("bridged", "as name=value"),
        ("color=red", "no parameter"),
    ],
)
def test_what_is_no_interface(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        parse_vif(text, devid=0)


@pytest.mark.parametrize(
    ("text", "nr_bytes", "interval_us"),
    [
        ("10Mb/s", 62500, 50000),
        ("250KB/s", 12500, 50000),
        ("1MB/s@20ms", 20000, 20000),
        ("1GB/s@100us", 100000, 100),
        ("1000B/s@1s", 1000, 1000000),
    ],
)
def test_rates(text: str, nr_bytes: int, interval_us: int) -> None:
    assert parse_rate(text) == Rate(nr_bytes, interval_us)


@pytest.mark.parametrize("text", ["1b/s", "0B/s", "1MB/s@0s", "9GB/s@99999s"])
def test_rates_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_rate(text)


def test_a_chosen_address_stays() -> None:
    first = vif_mac(Vif(0), seed=b"domain")
    assert first == vif_mac(Vif(0), seed=b"domain")
    assert first != vif_mac(Vif(1), seed=b"domain")
    assert first.startswith("00:16:3e:")
    assert parse_vif(f"mac={first}", devid=0).mac == first
    assert vif_mac(Vif(0, mac=MAC), seed=b"domain") == MAC


_WORDS = st.sampled_from(
    "raw qcow2 xvda sda1 rw r , = : / phy: file: tap:aio: target= vdev= "
    "format= access= cdrom discard mac= ip= rate= mtu= 1 é".split(" ")
)


@given(st.lists(_WORDS, max_size=12).map("".join) | st.text())
def test_any_text_is_a_device_or_a_value_error(text: str) -> None:
    for parse in (parse_disk, lambda t: parse_vif(t, devid=0)):
        with suppress(ValueError):
            assert parse(text)
