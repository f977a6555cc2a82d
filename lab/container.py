# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab container: systemd as PID 1 in namespaces of this machine.

It has this machine's kernel and /dev/kvm, a file system of its own in memory
over the lab's root, and a network with nothing but a loopback. The processes:

    lab ---- keeper ---- PID 1: container_init.sh, then systemd
     |                     |
     nsenter (a command)   units, the command's among them

The keeper kills PID 1, and the kernel with it all others, when the lab ends in
whatever way, and removes the cgroup; PID 1 dies if the keeper is killed.
"""

import os
import secrets
import select
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.container_console import Console, open_console
from lab.errors import LabError, TimeLimitError
from lab.steps import step

_HERE = Path(__file__).resolve().parent
_START_LIMIT_S = 60.0
# For what takes some milliseconds, and for ever when PID 1 has stopped.
_ANSWER_LIMIT_S = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--cgroup")
_CONTROLLERS = ("memory", "cpu", "pids", "io")
_CAP_SYS_RESOURCE = 24  # linux/capability.h
# What `systemctl is-system-running` says of a system that goes on.
_RUNNING = {"initializing", "starting", "running", "degraded", "maintenance"}


@dataclass(frozen=True, slots=True)
class Device:
    """A character device: Linux, admin-guide/devices.rst."""

    name: str
    major: int
    minor: int
    mode: str = "666"
    group: str = "root"

    def __str__(self) -> str:
        """As container_init.sh wants it."""
        return f"{self.name}:{self.major}:{self.minor}:{self.mode}:{self.group}"


_DEVICES = (
    Device("null", 1, 3),
    Device("zero", 1, 5),
    Device("full", 1, 7),
    Device("random", 1, 8),
    Device("urandom", 1, 9),
    Device("tty", 5, 0, group="tty"),
)
# Those that this machine may lack, with udev's modes. Neither device mapper
# nor loop devices: what they set up is the whole machine's and would stay.
_KVM = Device("kvm", 10, 232, mode="660", group="kvm")
_TUN = Device("net/tun", 10, 200)
_VHOST_NET = Device("vhost-net", 10, 238, mode="660", group="kvm")


def lacks() -> list[str]:
    """What a container on this machine lacks against the lab machine."""
    missing = ["kernel modules", "device mapper", "loop devices"]
    missing += [f"/dev/{x.name}" for x in (_KVM, _TUN) if not _is_there(x)]
    try:
        given = (_cgroup_root() / "cgroup.subtree_control").read_text()
    except LabError:
        given = ""
    missing += absent_controllers(given)
    if not has_capability(
        Path("/proc/self/status").read_text(), _CAP_SYS_RESOURCE
    ):
        missing.append("CAP_SYS_RESOURCE")
    return missing


def absent_controllers(given: str) -> list[str]:
    """Of the controllers that units use, those that `given`, the text of a
    cgroup.subtree_control, does not name."""
    return [f"{x} controller" for x in _CONTROLLERS if x not in given.split()]


def has_capability(status: str, number: int) -> bool:
    """Whether a process can ever have a capability, by proc(5)'s status."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def find_cgroup2(mountinfo: str) -> str | None:
    """Where cgroup v2 is mounted, by the text of /proc/self/mountinfo; with
    the v1 hierarchies beside it that is not /sys/fs/cgroup itself."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    return None


def _cgroup_root() -> Path:
    found = find_cgroup2(Path("/proc/self/mountinfo").read_text())
    if found is None:
        raise LabError("the lab container needs cgroup v2, not mounted here")
    return Path(found)


def _is_there(device: Device) -> bool:
    try:
        status = os.stat(f"/dev/{device.name}")
    except OSError:
        return False
    number = os.makedev(device.major, device.minor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == number


@dataclass(slots=True)
class Container:
    """A running lab container."""

    keeper: subprocess.Popen[bytes]
    console: Console
    init: int  # PID 1's number outside

    def run(self, command: str, *, limit_s: float) -> int:
        """Run a shell command in the tree under test; its exit status, 255 if
        a signal has ended it.

        Its output is ours, as it comes. Raises LabError, with the console's
        last lines, if the container ends, TimeLimitError after limit_s.
        """
        process = subprocess.Popen(
            self._inside(unit_command(["/bin/bash", "-c", command], "--pipe")),
            stdin=subprocess.DEVNULL,
            env={"PATH": _PATH},
        )
        try:
            with self._ended_with(process):
                status = process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise TimeLimitError(
                f"the command did not end in {limit_s:.0f} s\n"
                f"{self.console.last_lines()}"
            ) from error
        # A status may be that of a command that has ended all the rest.
        if (state := self._state()) not in _RUNNING:
            self.kill()
            raise LabError(
                f"the command ended the container ({state})\n"
                f"{self.console.last_lines()}"
            )
        return status

    def shell(self, command: str) -> int:
        """Run a shell command on this terminal, in the tree under test; its
        exit status."""
        process = subprocess.Popen(
            self._inside(unit_command(["/bin/bash", "-c", command], "--pty")),
            env={"PATH": _PATH, "TERM": os.environ.get("TERM", "dumb")},
        )
        with self._ended_with(process):
            return process.wait()

    def power_off(self, *, limit_s: float) -> None:
        """Have systemd stop all units, and end. TimeLimitError after
        limit_s, with the console's last lines."""
        command = self._inside(["systemctl", "poweroff"])
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env={"PATH": _PATH}
        )
        try:
            self.keeper.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise TimeLimitError(
                f"it did not end in {limit_s:.0f} s\n"
                f"{self.console.last_lines()}"
            ) from error
        finally:
            self.kill()
            process.wait()

    def kill(self) -> None:
        """End everything in the container; returns when nothing is left."""
        _end(self.keeper)

    @contextmanager
    def _ended_with(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """If nsenter has not ended in the block, the container ends.

        nsenter itself is not killed: the kernel ends PID 1 when the ends of
        all others have been waited for: pid_namespaces(7).
        """
        try:
            yield
        finally:
            if process.poll() is None:
                self.kill()
                process.wait()

    def _state(self) -> str:
        """systemd's word for its own, or why there is none."""
        if self.keeper.poll() is not None:
            return "gone"
        process = subprocess.Popen(
            self._inside(["systemctl", "is-system-running"]),
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            with process, self._ended_with(process):
                answer, _ = process.communicate(timeout=_ANSWER_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "no answer"
        return answer.decode().strip() or "gone"

    def _inside(self, command: Sequence[str]) -> list[str]:
        # Without a keeper the number may be another process's by now.
        if self.keeper.poll() is not None:
            raise LabError(
                f"the container has ended\n{self.console.last_lines()}"
            )
        return [
            *("nsenter", f"--target={self.init}", "--pid", *_NAMESPACES),
            *("--root", "--wd=/", "--", *command),
        ]


def unit_command(command: Sequence[str], *options: str) -> list[str]:
    """How to run a command as a unit of its own and wait for it.

    systemd would replace variables in it: systemd.service(5), "Command lines".
    """
    return [
        *("systemd-run", "--quiet", "--wait", "--collect", *options),
        *("--service-type=exec", "--property=EnvironmentFile=/run/lab.env"),
        *(
            "--property=LimitMEMLOCK=infinity",
            "--working-directory=/srv/xenner",
        ),
        *("--", *(word.replace("$", "$$") for word in command)),
    ]


@contextmanager
def start_container(
    root: Path, *, stage: Path, out: Path
) -> Iterator[Container]:
    """A container that is ready for a command.

    `root` is a Debian's root directory; it is only read. The files in
    stage/root lie over it and those in stage/tree in /srv/xenner; stage/env is
    the environment of commands. The directory `out` is the container's /out.
    Nothing of it stays when the block or this process ends.

    Raises LabError if it does not start.
    """
    if os.geteuid() != 0:
        raise LabError("the lab container is started by root only: try as root")
    cgroup = _cgroup_root() / f"xenner-lab-{secrets.token_hex(4)}"
    print(f"lab: container without: {', '.join(lacks())}", file=sys.stderr)
    with ExitStack() as stack:
        with step("container"):
            console = stack.enter_context(open_console())
            init_command = _init_command(cgroup, root, stage, out, console)
            keeper = stack.enter_context(
                _start_keeper(cgroup, init_command, console)
            )
            init = _wait_ready(keeper, console)
        yield Container(keeper, console, init)


def _init_command(
    cgroup: Path, root: Path, stage: Path, out: Path, console: Console
) -> list[str]:
    """PID 1's, but for the last argument, which the keeper adds."""
    present = [x for x in (_KVM, _TUN, _VHOST_NET) if _is_there(x)]
    # The namespace's root is the cgroup that a process is in when it enters.
    join = 'echo 0 >"$1"; shift; exec "$@"'
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        # What no namespace is for.
        "--bounding-set=-sys_module,-sys_time,-wake_alarm",
        *("sh", "-ec", join, "sh", f"{cgroup}/cgroup.procs"),
        *("unshare", *_NAMESPACES, "--"),
        *("sh", str(_HERE / "container_init.sh")),
        *(str(path.resolve()) for path in (root, stage, out)),
        console.path,
        " ".join(str(device) for device in (*_DEVICES, *present)),
    ]


@contextmanager
def _start_keeper(
    cgroup: Path, init_command: list[str], console: Console
) -> Iterator[subprocess.Popen[bytes]]:
    program = str(_HERE / "container_keeper.py")
    command = [
        *("unshare", "--pid", "--", sys.executable, "-IS", program),
        *(str(cgroup), *init_command),
    ]
    try:
        keeper = subprocess.Popen(
            command,
            env={"PATH": _PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=console.output,
            # What the terminal sends to the lab is not for it.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed: make setup") from error
    console.output.close()
    with keeper:
        try:
            yield keeper
        finally:
            _end(keeper)


def _wait_ready(keeper: subprocess.Popen[bytes], console: Console) -> int:
    """PID 1's number outside, when systemd has started all units."""
    assert keeper.stdout is not None
    readable, _, _ = select.select([keeper.stdout], [], [], _START_LIMIT_S)
    line = keeper.stdout.readline() if readable else b""
    if line:
        return int(line)
    _end(keeper)
    if readable:
        raise LabError(f"the container did not start\n{console.last_lines()}")
    raise TimeLimitError(
        f"no start in {_START_LIMIT_S:.0f} s\n{console.last_lines()}"
    )


def _end(keeper: subprocess.Popen[bytes]) -> None:
    """Have the keeper end the container; returns when nothing is left."""
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait()
