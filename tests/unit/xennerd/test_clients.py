# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs that were written for Xen make of our output.

The rules are those of OpenNebula's addon for Xen (src/vmm/poll and
src/im/xen-probes.d/xen.rb), of vhostmd's vhostmd.xml, and of Xen's xendomains
(tools/hotplug/Linux/xendomains.in). Ganeti's are in test_ganeti.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xennerd.samples import WEB1
from tests.unit.xennerd.topsample import BEFORE
from xenner.paths import Paths
from xenner.types import Domid
from xenner.xlcfg import parse_config
from xennerd.ctl import top
from xennerd.ctl.__main__ import main
from xennerd.ctl.domains import Domain, dom0
from xennerd.ctl.formats import info_lines, long_list
from xennerd.ctl.showing import host_facts
from xennerd.ctl.top import Sample, xentop_state

DEAD = replace(WEB1, domid=Domid(9), name="db", end="crash")
DOMAINS = (dom0([WEB1, DEAD]), WEB1, replace(DEAD, vcpus=()))
CONFIG = parse_config(
    "name='web1.example.com'\nkernel='/k'\ndisk=['/dev/vg/web,raw,xvda,w']",
    file="f",
)


@pytest.fixture
def xentop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What `xentop` prints with these words, where it is ours."""
    moments = iter(range(100, 200))

    def sample(_paths: Paths) -> Sample:
        at_s = float(next(moments))
        now = replace(WEB1, cpu_s=at_s / 2)
        return replace(BEFORE, at_s=at_s, domains=(DOMAINS[0], now, DOMAINS[2]))

    def run(*words: str) -> str:
        assert main(["top", *words]) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(top, "take_sample", sample)
    monkeypatch.setattr(top, "_is_interrupted", lambda *_: False)
    return run


def last_screen(text: str) -> list[list[str]]:
    """OpenNebula's: of two the second, from the heading on, by blanks."""
    lines = text.strip().split("\n")
    half = lines[-(len(lines) // 2) :]
    (heading,) = (at for at, x in enumerate(half) if "NAME  STATE" in x)
    return [line.split() for line in half[heading + 1 :]]


@pytest.mark.parametrize("words", [("-bi2",), ("-fbi2",), ("-b", "-i", "2")])
def test_opennebula_polls(
    xentop: Callable[..., str], words: tuple[str, ...]
) -> None:
    rows = last_screen(xentop(*words))
    assert [row[0] for row in rows] == ["Domain-0", WEB1.name, "db"]
    web, dead = rows[1:]
    # Of the letters the last one counts: all but c are of an active one.
    assert [row[1].replace("-", "")[-1:] for row in rows] == ["r", "r", "c"]
    # Percent of a processor, KiB, and traffic in KiB by place.
    assert (float(web[3]), int(web[4])) == (50.0, 512 << 10)
    assert (int(web[10]), int(web[11])) == (5, 1)
    assert (int(dead[10]), int(dead[11])) == (0, 0)


def test_opennebula_lists() -> None:
    """It goes through the disks of all that are listed, the host too."""
    text = json.dumps(long_list(DOMAINS, {Domid(7): CONFIG}), indent=4)
    found = {}
    for domain in json.loads(text):
        config = domain["config"]
        memory_mib = config["b_info"]["max_memkb"] // 1024
        paths = [disk["pdev_path"] for disk in config["disks"]]
        name = config["c_info"]["name"]
        found[name] = (config["b_info"]["max_vcpus"], memory_mib, paths)
    assert found[WEB1.name] == (2, 1024, ["/dev/vg/web"])
    assert found["Domain-0"][2] == found["db"][2] == []


def test_opennebula_monitors_a_host() -> None:
    facts = {}
    for line in info_lines(host_facts([])):
        columns = [column.strip() for column in line.split(":")]
        facts[columns[0]] = columns[1]
    assert int(facts["total_memory"]) >= int(facts["free_memory"]) >= 0
    assert float(facts["nr_cpus"]) >= 1
    assert float(facts["cpu_mhz"]) >= 0


def awk(text: str, pattern: str, column: int) -> list[str]:
    """gawk '/pattern/ {print $column}'"""
    return [
        line.split()[column - 1]
        for line in text.splitlines()
        if re.search(pattern, line)
    ]


def test_vhostmd_s_metrics(xentop: Callable[..., str]) -> None:
    info = "\n".join(info_lines(host_facts([])))
    assert awk(info, "^xen_(major|minor|extra)", 3) == ["4", "17", ".0"]
    for name in ("nr_cpus", "total_memory", "free_memory"):
        (value,) = awk(info, f"^{name}", 3)
        assert int(value) >= 0
    (memory_kib,) = awk(xentop("-b", "-i", "1"), "Domain-0", 5)
    assert int(memory_kib) == DOMAINS[0].memory_mib << 10


_TAKEN = re.compile(
    r'\(domain|\(domid|\(name|^    {$|"name":|^        "domid":'
)


def xendomains(text: str) -> Iterator[tuple[str, str]]:
    """Number and name of each domain in `list -l`, by lines that it greps."""
    name = number = ""
    for line in filter(_TAKEN.search, text.splitlines()):
        if line.strip() == "{":
            name = number = ""
        elif match := re.fullmatch(r'.*"name": "(.*)",', line):
            name = match[1]
        elif match := re.fullmatch(r'.*"domid": (.*),', line):
            number = match[1]
        if name and number:
            yield number, name


def test_xendomains_finds_what_runs() -> None:
    text = json.dumps(long_list(DOMAINS, {Domid(7): CONFIG}), indent=4)
    assert list(xendomains(text)) == [
        *(("0", "Domain-0"), ("7", WEB1.name), ("9", "db")),
    ]


def test_xendomains_starts_a_file_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name that a dry run says, which the list has."""
    file = tmp_path / "auto.cfg"
    file.write_text("name='web1.example.com'\nkernel='/k'\n")
    words = ("create", "--quiet", "--dryrun", "--defconfig", str(file))
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    said = [re.fullmatch(r'.*"name": "(.*)",', line) for line in out]
    assert [match[1] for match in said if match] == [WEB1.name]


@pytest.mark.parametrize(
    ("domain", "state"),
    [
        (DOMAINS[0], "-----r"),
        (replace(WEB1, vcpus=WEB1.vcpus[1:]), "--b---"),
        (replace(WEB1, is_paused=True), "----p-"),
        (replace(WEB1, is_ending=True), "d-----"),
        (replace(WEB1, end="poweroff"), "-s----"),
        (replace(WEB1, end="crash"), "-s-c--"),
        (replace(WEB1, is_silent=True), "------"),
    ],
)
def test_states_in_xentop_s_order(domain: Domain, state: str) -> None:
    assert xentop_state(domain.state) == state
