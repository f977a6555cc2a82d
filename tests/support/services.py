# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that is not alone: evtchnd, xenstore, Debian's kernel between them.

The guest runs a shell on its console: a test types, and reads what it says.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP, Daemon, open_daemon

INIT = b"""\
#!/bin/busybox sh
export PATH=/bin PS1=
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
stty -echo
echo XENNER-INIT
exec sh
"""
# What the kernel runs when it is asked to power off (kernel/reboot.c).
POWEROFF = b"""\
#!/bin/busybox sh
echo XENNER-POWEROFF >/dev/console
exec /bin/busybox poweroff -f
"""
DOMID = 5
HANDLE = "12345678-9abc-4def-8123-456789abcdef"
# What Debian's xenstore-utils has, one program under several names.
_TOOLS = ("xenstore-ls", "xenstore-read", "xenstore-write", "xenstore-exists")


def xenstore_tools() -> dict[str, bytes]:
    """Debian's xenstore clients with their libraries, as initramfs files."""
    found = {name: shutil.which(name) for name in _TOOLS}
    programs = {name: Path(path) for name, path in found.items() if path}
    if programs.keys() != found.keys():
        pytest.skip("packages: xenstore-utils is not installed")
    files = {f"bin/{name}": p.read_bytes() for name, p in programs.items()}
    listing = subprocess.run(
        ["ldd", *programs.values()], capture_output=True, text=True, check=True
    ).stdout
    for path in re.findall(r"(/\S+) \(0x", listing):
        files[path.removeprefix("/")] = Path(path).read_bytes()
    return files


def make_disk(directory: Path) -> Path:
    """An initramfs whose shell can talk to xenstore."""
    path = directory / "initramfs"
    files = {"sbin/poweroff": POWEROFF, **xenstore_tools()}
    path.write_bytes(make_initramfs(INIT, files))
    return path


@dataclass
class Guest:
    """A running xenner, its console in our hands."""

    process: subprocess.Popen[bytes]
    runtime_dir: Path | None = None
    console: str = ""
    _seen: int = 0

    def wait_for(self, text: str, timeout_s: float = 60) -> str:
        """What the console says up to and with `text`, from where the last
        call stopped. Fails the test when it does not come."""
        deadline = time.monotonic() + limit_s(timeout_s)
        while (at := self.console.find(text, self._seen)) < 0:
            left_s = deadline - time.monotonic()
            if left_s < 0 or not self._read(left_s):
                pytest.fail(
                    f"no {text!r} on the console:\n{self.console}\n"
                    f"{self._counters()}"
                )
        end = at + len(text)
        said, self._seen = self.console[self._seen : end], end
        return said

    def _counters(self) -> str:
        """What emu and KVM have counted, twice: does anything move?"""
        if self.runtime_dir is None:
            return ""
        command = [
            *(sys.executable, "-m", "xennerd.stats.__main__", "--watch=1"),
            *("--count=2", "--runtime-dir", str(self.runtime_dir)),
            str(DOMID),
        ]
        done = subprocess.run(
            command, cwd=TOP, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def _read(self, timeout_s: float) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], timeout_s)[0]:
            return False
        data = os.read(fd, 65536)
        self.console += data.decode(errors="replace").replace("\r", "")
        return bool(data)

    def type(self, line: str) -> None:
        """Give the guest's shell a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def do(self, command: str) -> str:
        """Run a command in the guest; what it says. It must succeed."""
        # The mark is not in what is typed, should it be echoed.
        self.type(f"{command}; echo DONE''-$?")
        said = self.wait_for("DONE-")
        status = self.wait_for("\n").strip()
        assert status == "0", f"{command}: {said}"
        return said.removesuffix("DONE-")

    def end(self, timeout_s: float = 60) -> tuple[int, str]:
        """The status and messages of one that ends, or has been told to."""
        out, err = self.process.communicate(timeout=limit_s(timeout_s))
        self.console += out.decode(errors="replace").replace("\r", "")
        return self.process.returncode, err.decode()


@dataclass
class Host:
    """The daemons of a host, and the programs that speak to them."""

    directory: Path
    evtchnd: Daemon
    kernel: Path
    disk: Path
    guests: list[Guest] = field(default_factory=list)
    store: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """xenstore's."""
        return self.directory / "xenstore"

    @property
    def vmcore(self) -> Path:
        """The memory of the one guest."""
        return self.directory / f"vmcore.{DOMID}"

    def start_store(self) -> None:
        """With the state that an earlier one has left."""
        self.store = subprocess.Popen(
            [
                *(sys.executable, "-m", "xenstored"),
                *("--socket", self.socket, "--evtchnd", self.evtchnd.path),
                *("--runtime-dir", self.directory),
                *("--state", self.directory / "state"),
            ],
            stdout=subprocess.PIPE,
        )
        assert self.store.stdout is not None
        assert self.store.stdout.readline().startswith(b"listening")

    def stop_store(self, number: int = signal.SIGTERM) -> int:
        """End it; its status."""
        assert self.store is not None
        self.store.send_signal(number)
        self.store.communicate(timeout=limit_s(20))
        status, self.store = self.store.returncode, None
        return status

    def boot(
        self, *options: str, cmdline: str = "quiet", is_up: bool = True
    ) -> Guest:
        """A guest; `is_up`: whose shell has come."""
        guest = Guest(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "xennerd.standalone"),
                    *("-kernel", self.kernel, "-initrd", self.disk),
                    *("-append", f"console=hvc0 panic=-1 {cmdline}"),
                    *("-runtime-dir", self.directory, "-domid", str(DOMID)),
                    *("-uuid", HANDLE, "-name", "web"),
                    *("-evtchnd", self.evtchnd.path, "-xenstore", self.socket),
                    *options,
                ],
                cwd=TOP,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ),
            self.directory,
        )
        self.guests.append(guest)
        if is_up:
            guest.wait_for("XENNER-INIT")
        return guest

    def run(self, tool: str, *arguments: str) -> str:
        """What one of Debian's xenstore clients says; it must succeed."""
        return subprocess.run(
            [tool, *arguments],
            env={**os.environ, "XENSTORED_PATH": str(self.socket)},
            check=True,
            capture_output=True,
            text=True,
            timeout=limit_s(20),
        ).stdout

    def read(self, node: str) -> str:
        """A node of the guest's."""
        path = f"/local/domain/{DOMID}/{node}"
        return self.run("xenstore-read", path).removesuffix("\n")

    def write(self, node: str, value: str) -> None:
        """Likewise."""
        self.run("xenstore-write", f"/local/domain/{DOMID}/{node}", value)

    def wait_value(self, node: str, value: str) -> None:
        """Until a node of the guest's has this value."""
        self.wait_path(f"/local/domain/{DOMID}/{node}", value)

    def wait_node(self, node: str, start: str) -> None:
        """Until a node of the guest's has a value that starts so."""
        path = f"/local/domain/{DOMID}/{node}"
        self._wait(path, lambda found: found.startswith(start))

    def wait_path(self, path: str, value: str) -> None:
        """Until any node has this value."""
        self._wait(path, lambda found: found == value)

    def _wait(
        self, path: str, is_right: Callable[[str], bool], timeout_s: float = 60
    ) -> None:
        deadline = time.monotonic() + limit_s(timeout_s)
        with subprocess.Popen(
            ["xenstore-watch", path],
            env={**os.environ, "XENSTORED_PATH": str(self.socket)},
            stdout=subprocess.PIPE,
        ) as watch:
            assert watch.stdout is not None
            try:
                while True:
                    left_s = max(0, deadline - time.monotonic())
                    if not select.select([watch.stdout], [], [], left_s)[0]:
                        pytest.fail(f"{path} has no such value")
                    # The first event says only that the watch is there.
                    os.read(watch.stdout.fileno(), 4096)
                    with suppress(subprocess.CalledProcessError):
                        found = self.run("xenstore-read", path)
                        if is_right(found.removesuffix("\n")):
                            return
            finally:
                watch.kill()

    def used_bytes(self) -> int:
        """How much of the host's memory the guest has."""
        return os.stat(self.vmcore).st_blocks * 512

    def end_guests(self) -> None:
        """What a test has left running is asked to end, and does."""
        for guest in self.guests:
            if guest.process.poll() is None:
                guest.process.terminate()
                assert guest.end()[0] == 0

    def close(self) -> None:
        """Nothing of it runs after this."""
        for guest in self.guests:
            if guest.process.poll() is None:
                guest.process.kill()
            guest.process.communicate()
        if self.store is not None:
            self.stop_store(signal.SIGKILL)


@contextmanager
def open_host(directory: Path, kernel: Path, disk: Path) -> Iterator[Host]:
    """evtchnd and a store, both without complaint until the end."""
    with open_daemon(directory) as evtchnd:
        host = Host(directory, evtchnd, kernel, disk)
        try:
            host.start_store()
            yield host
            host.end_guests()
            assert host.store is None or host.stop_store() == 0
        finally:
            host.close()
