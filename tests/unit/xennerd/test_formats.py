# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables, column for column as xl prints them."""

import json
from dataclasses import replace

import pytest

from tests.unit.xennerd.samples import WEB
from xenner.errors import ConfigError
from xenner.types import Domid
from xenner.xlcfg import parse_config
from xennerd.ctl.acting import parse_mib
from xennerd.ctl.domains import (
    Domain,
    NoDomainError,
    memory_mib,
    named,
)
from xennerd.ctl.formats import (
    block_lines,
    duration,
    info_lines,
    list_lines,
    long_list,
    network_lines,
    uptime_lines,
    vcpu_lines,
)


def test_a_number_is_a_number_first() -> None:
    """A name may look like another's number."""
    first = Domain(Domid(1), "2")
    domains = [first, Domain(Domid(2), "web"), Domain(Domid(3), "9")]
    assert [named(word, domains).domid for word in ("1", "2", "9")] == [1, 2, 3]
    with pytest.raises(NoDomainError):
        named("4", domains)


def test_list() -> None:
    header, row = list_lines([WEB])
    assert header == (
        "Name                                        ID   Mem VCPUs"
        "\tState\tTime(s)"
    )
    assert row == f"{'web':<40}     7   512     2     r-----      12.3"


def test_the_long_list_is_libxls() -> None:
    handle = "4766cf5a-0e85-42df-96d6-c3614a39da33"
    domains = [Domain(Domid(0), "Domain-0"), replace(WEB, handle=handle)]
    config = parse_config(
        "name='web'\nkernel='/k'\nextra='ro'\non_crash='preserve'\n"
        "disk=['phy:/dev/vg/web,xvda,w', '/iso,raw,xvdb:cdrom,r']\n"
        "vif=['mac=00:16:3e:00:00:01,bridge=br0,ip=10.0.0.1']\n",
        file="f",
    )
    host, web = long_list(domains, {WEB.domid: config})
    assert host["domid"] == 0
    assert json.loads(json.dumps(web)) == {
        "domid": 7,
        "config": {
            "c_info": {"type": "pv", "name": "web", "uuid": handle},
            "b_info": {
                "max_vcpus": 2,
                "avail_vcpus": [0, 1],
                "max_memkb": 0,
                "target_memkb": 512 << 10,
                "kernel": "/k",
                "ramdisk": "",
                "cmdline": "ro",
                "type.pv": {},
            },
            "disks": [
                {
                    "pdev_path": "/dev/vg/web",
                    "vdev": "xvda",
                    "backend": "phy",
                    "format": "raw",
                    "readwrite": 1,
                    "is_cdrom": 0,
                },
                {
                    "pdev_path": "/iso",
                    "vdev": "xvdb",
                    "backend": "phy",
                    "format": "raw",
                    "readwrite": 0,
                    "is_cdrom": 1,
                },
            ],
            "nics": [
                {
                    "devid": 0,
                    "mtu": 1500,
                    "mac": "00:16:3e:00:00:01",
                    "bridge": "br0",
                    "script": "vif-bridge",
                    "nictype": "vif",
                    "ip": "10.0.0.1",
                }
            ],
            "on_poweroff": "destroy",
            "on_reboot": "restart",
            "on_watchdog": "destroy",
            "on_crash": "preserve",
        },
    }


@pytest.mark.parametrize(
    ("domain", "state"),
    [
        (Domain(Domid(1), "a"), "-b----"),
        (Domain(Domid(1), "a", is_paused=True), "--p---"),
        (Domain(Domid(1), "a", is_ending=True, is_paused=True), "-----d"),
        (WEB, "r-----"),
    ],
)
def test_states(domain: Domain, state: str) -> None:
    assert domain.state == state


def test_vcpus_and_uptime() -> None:
    lines = list(vcpu_lines([WEB]))
    assert lines[0].split()[:5] == ["Name", "ID", "VCPU", "CPU", "State"]
    assert lines[1] == (
        f"{'web':<32}     7     0     3   r--      12.0 all / all"
    )
    assert list(uptime_lines([WEB]))[1] == f"{'web':<33}    7 2:27:44"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00"),
        (8864, "2:27:44"),
        (86400 + 7384, "1 day, 2:03:04"),
        (98 * 86400 + 8864, "98 days, 2:27:44"),
    ],
)
def test_duration(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_devices() -> None:
    disk = {"devid": "51712", "domid": "7", "state": "4", "backend": "/b"}
    row = list(block_lines([disk]))[1]
    assert row.split() == ["51712", "0", "7", "4", "-1", "-1", "/b"]
    nic = {"devid": "0", "mac": "00:16:3e:00:00:01", "handle": "0", **disk}
    row = list(network_lines([nic | {"devid": "0"}]))[1]
    assert row.split()[2] == "00:16:3e:00:00:01"
    assert row.split()[-2:] == ["-1/-1", "/b"]


def test_info_has_its_colon_where_xl_has_it() -> None:
    assert list(info_lines({"nr_cpus": 4})) == ["nr_cpus                : 4"]


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512", 512), ("512m", 512), ("2g", 2048), ("1048576k", 1024)],
)
def test_amounts_of_memory(text: str, mib: int) -> None:
    assert parse_mib(text) == mib


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.5g"])
def test_no_amounts_of_memory(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mib(text)


def test_meminfo() -> None:
    assert memory_mib("MemTotal:    2048 kB\nMemFree: 1 kB\n", "MemTotal") == 2
    assert memory_mib("", "MemTotal") == 0
