# SPDX-License-Identifier: GPL-2.0-or-later
"""What the container finds out about this machine, and what it is told."""

import os
import re
import socket
from pathlib import Path

import pytest

from lab.container import (
    Device,
    absent_controllers,
    find_cgroup2,
    has_capability,
    lacks,
    start_container,
    unit_command,
)
from lab.container_console import open_console
from lab.container_keeper import remove_cgroup, wait_ready
from lab.errors import LabError

_HYBRID = """\
30 23 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
_UNIFIED = """\
29 23 0:25 / /sys/fs/cgroup rw shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(
    ("mountinfo", "found"),
    [
        (_HYBRID, "/sys/fs/cgroup/unified"),
        (_UNIFIED, "/sys/fs/cgroup"),
        ("", None),
        # A mount point that is called so is none.
        ("1 2 0:1 / /cgroup2 rw - tmpfs cgroup2 rw\n", None),
    ],
)
def test_where_cgroup_v2_is(mountinfo: str, found: str | None) -> None:
    assert find_cgroup2(mountinfo) == found


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ("cpuset cpu io memory hugetlb pids rdma misc\n", []),
        ("cpuset memory pids\n", ["cpu controller", "io controller"]),
        (
            "\n",
            [
                "memory controller",
                "cpu controller",
                "pids controller",
                "io controller",
            ],
        ),
    ],
)
def test_absent_controllers(given: str, absent: list[str]) -> None:
    assert absent_controllers(given) == absent


@pytest.mark.parametrize(
    ("bounding", "expected"),
    [("000001ffffffffff", True), ("000001fffeffffff", False), ("", False)],
)
def test_capability(bounding: str, expected: bool) -> None:
    """The bounding set decides: a process may hold more than it passes on."""
    status = "Name:\tpython3\nCapEff:\t000001ffffffffff\n"
    if bounding:
        status += f"CapBnd:\t{bounding}\n"
    assert has_capability(status, 24) is expected


def test_lacks_is_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    def stat_nothing(path: str) -> os.stat_result:
        assert path.startswith("/dev/")
        return os.stat_result([0o100644] + [0] * 9)

    monkeypatch.setattr("lab.container.os.stat", stat_nothing)
    assert {"/dev/kvm", "/dev/net/tun", "device mapper"} <= set(lacks())


def test_device_for_the_script() -> None:
    device = Device("kvm", 10, 232, mode="660", group="kvm")
    assert str(device) == "kvm:10:232:660:kvm"


def test_command_is_not_systemds_to_expand() -> None:
    command = unit_command(["bash", "-c", "echo $HOME ${x:-y} $$ %n"], "--pipe")
    assert command[-4:] == ["--", "bash", "-c", "echo $$HOME $${x:-y} $$$$ %n"]
    assert "--pipe" in command[: command.index("--")]


def test_root_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with (
        pytest.raises(LabError, match=r"^the lab container .* root"),
        start_container(tmp_path, stage=tmp_path, out=tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([b"READY=1"], True),
        ([b"STATUS=Starting...", b"READY=1\nSTATUS=Done."], True),
        # Not a line of its own, and then the other side is gone.
        ([b"STATUS=READY=1"], False),
        ([], False),
    ],
)
def test_ready(messages: list[bytes], expected: bool) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    end, other = os.pipe()
    with ours, theirs:
        for message in messages:
            theirs.send(message)
        if not expected:
            os.close(other)
        assert wait_ready(ours, end) is expected
    os.close(end)
    if expected:
        os.close(other)


def test_cgroup_is_removed_from_below(tmp_path: Path) -> None:
    (tmp_path / "lab/system.slice/a.service").mkdir(parents=True)
    (tmp_path / "lab/init.scope").mkdir()
    remove_cgroup(tmp_path / "lab")
    assert list(tmp_path.iterdir()) == []


def test_console_keeps_the_last_lines() -> None:
    with open_console() as console:
        assert re.fullmatch(r"/dev/pts/\d+", console.path)
        for number in range(100):
            console.output.write(b"line %d\n\n" % number)
        console.output.write(b"no\xffend")
        console.output.close()
        first, *_, last = console.last_lines().splitlines()
    assert first == "-- console:"
    assert last == "no\ufffdend"
    assert "line 99" in console.last_lines()
    assert "line 50" not in console.last_lines()
