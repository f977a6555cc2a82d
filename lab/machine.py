# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab machine: Debian with systemd, LVM and kvm_amd under QEMU's TCG.

It is booted once; its state is saved when it is ready, and each run resumes
that state in a few seconds. Nothing that a run changes outlives it. One that
is to be rebooted is booted instead, and keeps on a disk what it changes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from lab.cache import find_or_make, key_of
from lab.emulator import find_qemu
from lab.errors import LabError, TimeLimitError
from lab.image import Image, find_image, image_inputs
from lab.qemu import Parts, start_qemu
from lab.root import HERE
from lab.stage import BUILD, TREE
from lab.steps import run_quietly, step

_VOLUME_GROUP_BYTES = 8 << 30
_OVERLAY_BYTES = 2 << 30
_READY = b"lab: ready"
_BOOT_LIMIT_S = 240.0
_RESUME_LIMIT_S = 60.0
# A panic of Linux with its registers and its stack.
_SHOWN_LINES = 50


@dataclass(slots=True)
class Machine:
    """A running lab machine."""

    process: subprocess.Popen[bytes]
    monitor: QEMUMonitorProtocol
    image: Image
    directory: Path

    def wait_ready(self, limit_s: float, *, nr_boots: int = 1) -> None:
        """Wait until so many boots' last lines are on the console."""
        deadline = time.monotonic() + limit_s
        while self.console().count(_READY) < nr_boots:
            if self.process.poll() is not None:
                raise LabError(f"the machine ended in its boot\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TimeLimitError(
                    f"no boot in {limit_s:.0f} s\n{self.tail()}"
                )
            time.sleep(0.1)

    def console(self) -> bytes:
        """What the machine's kernel printed, from its start or resumption."""
        return (self.directory / "console").read_bytes()

    def tail(self) -> str:
        """The console's last lines, for messages."""
        text = self.console().decode(errors="replace").replace("\r", "")
        lines = [line for line in text.splitlines() if line.strip()]
        return (
            "\n".join(["-- console:", *lines[-_SHOWN_LINES:]])
            if lines
            else "(the console is silent)"
        )

    def ask(self, command: str, **arguments: object) -> object:
        """One QMP command's answer. Raises LabError if QEMU refuses."""
        try:
            return self.monitor.cmd(command, **arguments)
        except (QMPError, OSError) as error:
            raise LabError(f"QEMU: {command}: {error}") from error

    def save(self, file: Path) -> None:
        """Write the whole state; the machine is stopped afterwards."""
        self.ask("stop")
        self.ask("migrate", uri=f"exec:zstd -q -1 -o '{file}'")
        status: object = None
        while status != "completed":
            answer = self.ask("query-migrate")
            assert isinstance(answer, dict)
            status = answer.get("status")
            if status == "failed":
                raise LabError(f"saving failed: {answer.get('error-desc')}")
            time.sleep(0.05)

    def ssh(self, *options: str) -> list[str]:
        """The command line that leads to a shell in the machine."""
        fixed = {
            "BatchMode": "yes",
            "ConnectTimeout": "60",
            "HostKeyAlias": "lab",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ServerAliveCountMax": "6",
            "ServerAliveInterval": "30",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.image.known_hosts),
        }
        return [
            *("ssh", "-F", "none", "-i", str(self.image.key)),
            *(f"-o{name}={value}" for name, value in fixed.items()),
            *("-p", str(self._ssh_port()), *options, "root@127.0.0.1"),
        ]

    def run(self, command: str, *, limit_s: float) -> int:
        """Run a shell command in the tree under test; its exit status.

        Its output is ours, as it comes. Raises LabError, with the console's
        last lines, if the machine ends, TimeLimitError after limit_s.
        """
        process = subprocess.Popen(
            [*self.ssh("-T"), *_lab_run(_INSTALL + command)],
            stdin=subprocess.DEVNULL,
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise TimeLimitError(
                f"the command did not end in {limit_s:.0f} s\n{self.tail()}"
            ) from error
        finally:
            process.kill()
            process.wait()
        if status == 255 and self._is_gone():
            raise LabError(f"the machine ended\n{self.tail()}")
        return status

    def reboot(self) -> None:
        """Reboot it as its operator does, and wait until it is ready again.

        Only one of boot_machine(); others end.
        """
        nr_boots = self.console().count(_READY)
        # The connection ends with the machine, and so with a status of ssh.
        subprocess.run([*self.ssh("-T"), "systemctl reboot"])
        self.wait_ready(_BOOT_LIMIT_S, nr_boots=nr_boots + 1)

    def shell(self, command: str) -> int:
        """Run a shell command on this terminal, in the tree under test."""
        subprocess.run([*self.ssh("-T"), *_lab_run("")], check=True)
        within = (
            f"set -a; . /run/lab.env; set +a; cd {TREE}; {_INSTALL}{command}"
        )
        return subprocess.run([*self.ssh("-t"), within]).returncode

    def _ssh_port(self) -> int:
        """The port of this host that QEMU chose to forward."""
        text = self.ask(
            "human-monitor-command", **{"command-line": "info usernet"}
        )
        match = re.search(r"HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", str(text))
        if match is None:
            raise LabError(f"QEMU forwards no port:\n{text}")
        return int(match[1])

    def _is_gone(self) -> bool:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            return False
        return True


# What a package does for its users and directories.
_INSTALL = (
    "{ systemd-sysusers && systemd-tmpfiles --create xenner.conf; } "
    "2>/run/lab.install || { cat /run/lab.install >&2; exit 125; }\n"
)


def _lab_run(command: str) -> list[str]:
    return [
        "/usr/local/sbin/lab-run",
        f"{time.time():.3f}",
        shlex.quote(command),
    ]


@contextmanager
def start_machine(*, stage: Path, out: Path) -> Iterator[Machine]:
    """A machine that is ready for a command, with `stage` laid out for it;
    what it leaves in its /out comes to the directory `out`."""
    image, state = find_image(), _find_state()
    with TemporaryDirectory(prefix="machine-", dir=_build()) as name:
        directory = Path(name)
        # Sparse: a few KiB, LVM's own.
        _copy_sparse(state / "disk2.raw", directory / "disk2.raw")
        incoming = f"exec:zstd -dcq '{state / 'state.zst'}'"
        with _start(
            Parts(image, directory, stage, out), "-incoming", incoming
        ) as machine:
            with step("resume"):
                _wait_resumed(machine)
            yield machine


@contextmanager
def boot_machine(
    *, stage: Path, out: Path, hypervisor: Path | None = None
) -> Iterator[Machine]:
    """As start_machine(), but one that can be rebooted; under Xen, if that is
    given."""
    image = find_image()
    with TemporaryDirectory(prefix="machine-", dir=_build()) as name:
        directory = Path(name)
        overlay = directory / "overlay.raw"
        _make_sparse(overlay, _OVERLAY_BYTES)
        run_quietly(["mke2fs", "-q", "-t", "ext4", overlay])
        parts = Parts(image, directory, stage, out, overlay, hypervisor)
        with _boot(parts) as machine:
            yield machine


@contextmanager
def _boot(parts: Parts) -> Iterator[Machine]:
    _make_sparse(parts.directory / "disk2.raw", _VOLUME_GROUP_BYTES)
    with _start(parts) as machine:
        with step("boot"):
            machine.wait_ready(_BOOT_LIMIT_S)
        yield machine


@contextmanager
def _start(parts: Parts, *options: str) -> Iterator[Machine]:
    with start_qemu(parts, *options) as (process, monitor):
        yield Machine(process, monitor, parts.image, parts.directory)


def _wait_resumed(machine: Machine) -> None:
    deadline = time.monotonic() + _RESUME_LIMIT_S
    while True:
        answer = machine.ask("query-status")
        assert isinstance(answer, dict)
        if answer["status"] == "running":
            return
        if answer["status"] in ("paused", "postmigrate", "prelaunch"):
            machine.ask("cont")
        if machine.process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"the saved state did not resume: {answer}")
        time.sleep(0.05)


def _find_state() -> Path:
    """Directory with a booted machine's state and its second disk."""
    key = key_of(
        [
            *image_inputs(),
            Path(__file__),
            HERE / "qemu.py",
            str(find_qemu().directory),
        ]
    )
    return find_or_make("state", key, _boot_and_save)


def _boot_and_save(directory: Path) -> None:
    image = find_image()
    with TemporaryDirectory(prefix="boot-", dir=_build()) as name:
        work = Path(name)
        with _boot(Parts(image, work, work, work)) as machine, step("save"):
            machine.save(directory / "state.zst")
        _copy_sparse(work / "disk2.raw", directory / "disk2.raw")


def _build() -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    return BUILD


def _make_sparse(path: Path, nr_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(nr_bytes)


def _copy_sparse(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
