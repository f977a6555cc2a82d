# SPDX-License-Identifier: GPL-2.0-or-later
"""A real container: what works in it, how it ends, and that nothing stays."""

import io
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from lab.container import Container, find_cgroup2, start_container
from lab.container_keeper import remove_cgroup
from lab.errors import LabError, TimeLimitError

TOP = Path(__file__).resolve().parents[3]
LIMIT_S = 60.0


def cgroup_of(pid: int) -> Path:
    """The directory of the container's cgroup."""
    found = find_cgroup2(Path("/proc/self/mountinfo").read_text())
    assert found is not None
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        # v2 is hierarchy 0: cgroups(7). systemd is in init.scope below.
        if line.startswith("0::"):
            return Path(found, line.removeprefix("0::/").split("/")[0])
    raise AssertionError("PID 1 has no cgroup")


@contextmanager
def nothing_left(pids: Sequence[int]) -> Iterator[None]:
    """What happens in the block must end the container that has `pids`: its
    keeper and its PID 1."""
    cgroup = cgroup_of(pids[-1])
    assert cgroup.name.startswith("xenner-lab-")
    ends = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for end in ends:
            assert select.select([end], [], [], LIMIT_S)[0], "still running"
        assert not cgroup.exists()
    finally:
        for end in ends:
            os.close(end)


@pytest.fixture
def container(lab_root: Path, stage: Path, out: Path) -> Iterator[Container]:
    """One that is ready, and of which nothing is left."""
    with start_container(lab_root, stage=stage, out=out) as container:
        with nothing_left([container.keeper.pid, container.init]):
            yield container
            container.kill()
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(stage) not in mounts
        assert f"{lab_root}/run" not in mounts


def printed(container: Container, command: str, capfd: object) -> list[str]:
    """The lines that a command prints that must succeed."""
    assert isinstance(capfd, pytest.CaptureFixture)
    capfd.readouterr()
    status = container.run(command, limit_s=LIMIT_S)
    text, errors = capfd.readouterr()
    assert (status, errors) == (0, "")
    return str(text).splitlines()


def test_it_says_what_it_lacks_and_how_long_it_took(
    lab_root: Path,
    stage: Path,
    out: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with start_container(lab_root, stage=stage, out=out):
        first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("lab: container without: ")
    assert "device mapper" in first
    assert second.split()[:2] == ["lab:", "container"]
    assert second.endswith(" s")


def test_systemd_is_content(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    assert printed(container, "systemctl is-system-running", capfd) == [
        "running"
    ]
    assert printed(container, "systemctl --failed --no-legend", capfd) == []


def test_surroundings_of_a_command(
    container: Container, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Environment, directory, unit, network, and where files go."""
    command = (
        'pwd; cat README; echo "$GREETING, $XENNER_PLACE"; '
        "ip -brief address show | cut -d' ' -f1; "
        "grep ^0:: /proc/self/cgroup; "
        "echo found >$LAB_OUT/file; echo mine >README"
    )
    *lines, cgroup = printed(container, command, capfd)
    assert lines == [
        "/srv/xenner",
        "the tree",
        "hello there, container",
        "lo",
    ]
    assert cgroup.startswith("0::/system.slice/run-")
    assert (out / "file").read_text() == "found\n"


def test_what_a_command_changes_is_gone(
    container: Container, lab_root: Path, stage: Path
) -> None:
    command = "echo mine >README; touch /etc/mine /usr/bin/mine; rm /bin/true"
    assert container.run(command, limit_s=LIMIT_S) == 0
    container.kill()
    assert (stage / "tree/README").read_text() == "the tree\n"
    assert not (stage / "root/etc/mine").exists()
    assert not list(lab_root.glob("etc/mine")) + list(lab_root.glob("*/*/mine"))
    assert (lab_root / "usr/bin/true").exists()


def test_the_shell_sees_the_command_as_it_is(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    command = 'for x in 1 "2 3"; do echo "${x}" $x "$x" %n %%; done; : $$'
    assert printed(container, command, capfd) == [
        "1 1 1 %n %%",
        "2 3 2 3 2 3 %n %%",
    ]


@pytest.mark.parametrize(
    ("command", "status"), [("exit 3", 3), ("kill -KILL $$", 255)]
)
def test_status(container: Container, command: str, status: int) -> None:
    assert container.run(command, limit_s=LIMIT_S) == status
    assert container.run("true", limit_s=LIMIT_S) == 0


def test_journal(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (
        "systemd-run --quiet --wait --unit=speaker echo from the unit; "
        "journalctl --sync; journalctl -u speaker -o cat -t echo"
    )
    assert printed(container, command, capfd) == ["from the unit"]


def test_notify_unit(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (
        "systemctl start ready; "
        "systemctl show --value -p StatusText ready; systemctl is-active ready"
    )
    assert printed(container, command, capfd) == ["listening", "active"]


def test_device_policy(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    """DeviceAllow= is a BPF program that cgroup v2 has without a controller."""
    command = (
        "systemd-run --quiet --wait --pipe -p DevicePolicy=strict "
        "-p 'DeviceAllow=/dev/zero r' -p 'DeviceAllow=/dev/null rw' "
        "sh -c 'for x in zero full; do head -c0 /dev/$x 2>/dev/null "
        "&& echo $x; done; true'"
    )
    assert printed(container, command, capfd) == ["zero"]


@pytest.mark.parametrize("device", ["/dev/kvm", "/dev/net/tun"])
def test_device(container: Container, device: str) -> None:
    """Usable in the container exactly where it is here."""
    try:
        os.close(os.open(device, os.O_RDWR))
        expected = 0
    except OSError:
        expected = 1
    command = f"exec 3<>{device}"
    assert container.run(command, limit_s=LIMIT_S) == expected


def test_kernel_is_not_changed(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    """Settings that have no namespace can be read only."""
    command = (
        "[ -w /proc/sys/kernel/core_pattern ] || echo refused; "
        "[ -w /sys/kernel ] || echo refused; "
        "date --set=@0 2>/dev/null >&2 || echo refused; "
        "echo 1 >/proc/sys/net/ipv4/ip_forward && echo own network"
    )
    assert printed(container, command, capfd) == ["refused"] * 3 + [
        "own network"
    ]


@pytest.mark.parametrize(
    "command",
    [
        "systemctl poweroff",
        "systemctl reboot; sleep infinity",
        "kill -SEGV 1; sleep infinity",
    ],
)
def test_command_that_ends_the_container(
    container: Container, command: str
) -> None:
    with pytest.raises(LabError, match="command ended the container") as caught:
        container.run(command, limit_s=LIMIT_S)
    assert not isinstance(caught.value, TimeLimitError)
    assert "-- console:\n" in str(caught.value)
    with pytest.raises(LabError, match="container has ended"):
        container.run("true", limit_s=LIMIT_S)


def test_command_that_does_not_end(container: Container) -> None:
    command = "trap '' TERM; logger last words; sleep infinity"
    with pytest.raises(TimeLimitError, match="did not end in 3 s") as caught:
        container.run(command, limit_s=3)
    # As the journal has it; the command itself is there as well.
    assert "]: last words" in str(caught.value)


def test_pid_1_that_has_stopped(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be stopped from outside only. Whatever waits for it ends."""
    monkeypatch.setattr("lab.container._ANSWER_LIMIT_S", 1)
    assert container._state() == "running"
    os.kill(container.init, signal.SIGSTOP)
    assert container._state() == "no answer"


def test_root_that_does_not_start(stage: Path, out: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: namespaces and mounts")
    with (
        pytest.raises(LabError, match=r"did not start\n-- console:\nmount: "),
        start_container(stage / "root", stage=stage, out=out),
    ):
        pass


@dataclass(slots=True)
class Holder:
    """A process that has a container, and its numbers."""

    process: subprocess.Popen[bytes]
    output: BinaryIO
    keeper: int
    init: int


@contextmanager
def holder(
    root: Path,
    stage: Path,
    out: Path,
    *command: str,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Holder]:
    """One whose container is ready; it is killed at the end, or late."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.component.lab.holder"),
            *(str(root), str(stage), str(out), *command),
        ],
        cwd=TOP,
        stdin=stdin,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        output = process.stdout
        assert isinstance(output, io.BufferedReader)
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            keeper, init = map(int, output.readline().split())
            yield Holder(process, output, keeper, init)
        finally:
            process.kill()
            limit.cancel()
            limit.join()


def test_output_comes_at_once(lab_root: Path, stage: Path, out: Path) -> None:
    os.mkfifo(out / "go")
    command = "echo first; read answer </out/go; echo $answer"
    with holder(lab_root, stage, out, command) as held:
        assert held.output.readline() == b"first\n"
        (out / "go").write_text("second\n")
        assert held.output.readline() == b"second\n"
        assert held.process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_lab_is_ended(
    lab_root: Path, stage: Path, out: Path, number: str
) -> None:
    command = "echo busy; trap '' TERM INT; sleep infinity"
    with holder(lab_root, stage, out, command) as held:
        assert held.output.readline() == b"busy\n"
        with nothing_left([held.keeper, held.init]):
            os.killpg(held.process.pid, signal.Signals[number])
        assert held.process.wait(LIMIT_S) != 0


def test_keeper_is_killed(container: Container) -> None:
    """PID 1 goes with it. What only it could do is done by hand here."""
    cgroup = cgroup_of(container.init)
    end = os.pidfd_open(container.init)
    try:
        os.kill(container.keeper.pid, signal.SIGKILL)
        assert select.select([end], [], [], LIMIT_S)[0]
    finally:
        os.close(end)
    with pytest.raises(LabError, match="container has ended"):
        container.run("true", limit_s=LIMIT_S)
    remove_cgroup(cgroup)


def test_shell(lab_root: Path, stage: Path, out: Path) -> None:
    ours, theirs = pty.openpty()
    with (
        open(ours, "r+b", buffering=0) as terminal,
        holder(lab_root, stage, out, stdin=theirs) as held,
    ):
        os.close(theirs)
        # What is typed before the prompt is lost.
        text = b""
        while not text.endswith(b"# "):
            text += held.output.read(1) or pytest.fail(f"no prompt: {text!r}")
        terminal.write(b"echo $((6 * 7)) in $XENNER_PLACE; exit 7\n")
        assert b"42 in container" in held.output.read()
        assert held.process.wait(LIMIT_S) == 7


def test_without_kvm(lab_root: Path, stage: Path, out: Path) -> None:
    """In a mount namespace where another device hides /dev/kvm."""
    hide = (
        "[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; "
        'exec "$0" -m tests.component.lab.holder "$@"'
    )
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", hide, sys.executable),
            *(str(lab_root), str(stage), str(out), "ls /dev"),
        ],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    (without,) = (x for x in done.stderr.splitlines() if "without" in x)
    assert "/dev/kvm" in without
    assert "null" in done.stdout.split()
    assert "kvm" not in done.stdout.split()


def test_container_in_a_container(
    lab_root: Path, stage: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The outer one is a host with systemd and nothing but cgroup v2."""
    inner = stage / "tree/inner"
    for name in ("root", "tree", "out"):
        (inner / name).mkdir(parents=True)
    (inner / "env").write_text("")
    shutil.copytree(TOP / "lab", stage / "tree/lab")
    tests = "tests/component/lab"
    shutil.copytree(TOP / tests, stage / "tree" / tests)
    command = (
        "python3 -m tests.component.lab.holder / inner inner/out "
        "'systemctl is-system-running' && ls -d /sys/fs/cgroup/xenner-lab-*"
    )
    with start_container(lab_root, stage=stage, out=out) as container:
        assert container.run(command, limit_s=LIMIT_S) == 2
    numbers, state = capfd.readouterr().out.splitlines()
    assert len(numbers.split()) == 2
    assert state == "running"
