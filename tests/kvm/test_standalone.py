# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner` with a disk and nothing beside it: it has daemons of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.support.diskguest import file_in, is_clean, make_initrd, make_root
from tests.support.evtchnd import TOP
from tests.support.services import Guest
from xenner.listening import listener_of

pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "root.img"
    path.touch()
    os.truncate(path, 64 << 20)
    make_root(tmp_path, path)
    return path


def _start(
    kernel: Path, directory: Path, runtime_dir: Path, disk: Path
) -> Guest:
    return Guest(
        subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "xennerd.standalone",
                    "-kernel",
                    kernel,
                ),
                *("-initrd", make_initrd(directory, kernel), "-m", "192"),
                *("-append", "console=hvc0 quiet panic=-1 root=/dev/xvda"),
                *("-hda", disk, "-runtime-dir", runtime_dir),
            ],
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )


@pytest.fixture
def guest(
    usable_kvm: None,
    debian_kernel: Path,
    runtime_dir: Path,
    image: Path,
    tmp_path: Path,
) -> Guest:
    """One whose root is the image, up."""
    guest = _start(debian_kernel, tmp_path, runtime_dir, image)
    guest.wait_for("XENNER-INIT")
    return guest


def _xennerd(runtime_dir: Path) -> int:
    """The process number of the guest's own."""
    (log,) = runtime_dir.glob("private.*/xennerd.log")
    pid = listener_of(log.with_name("xennerd.socket"))
    assert pid is not None
    return pid


def _users(runtime_dir: Path) -> list[str]:
    """Processes that were told of it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
            environment = (path.parent / "environ").read_bytes().decode()
        except OSError:
            continue
        if str(runtime_dir) in words + environment:
            found.append(words)
    return found


def _wait_nothing_left(runtime_dir: Path) -> None:
    end = time.monotonic() + limit_s(30)
    while users := [*_users(runtime_dir), *map(str, runtime_dir.iterdir())]:
        assert time.monotonic() < end, users
        time.sleep(0.05)


def test_a_root_on_a_disk_of_the_command_line(
    guest: Guest, runtime_dir: Path, image: Path
) -> None:
    guest.do("echo from inside >/said")
    guest.type("mount -o remount,ro /; poweroff -f")
    status, said = guest.end()
    assert (status, said) == (0, "")
    _wait_nothing_left(runtime_dir)
    assert file_in(image, "/said") == b"from inside\n"
    assert is_clean(image)


def test_what_is_killed_leaves_nothing(guest: Guest, runtime_dir: Path) -> None:
    # evtchnd, the store, blkbackd, their xennerd, and the guest's process.
    assert len(_users(runtime_dir)) == 5
    guest.process.kill()
    guest.process.communicate()
    _wait_nothing_left(runtime_dir)


def test_a_supervisor_that_is_killed_leaves_nothing_either(
    guest: Guest, runtime_dir: Path, image: Path
) -> None:
    os.kill(_xennerd(runtime_dir), signal.SIGKILL)
    # Its daemons serve on.
    guest.do("echo from inside >/said; sync")
    guest.type("mount -o remount,ro /; poweroff -f")
    assert guest.end()[0] == 0
    _wait_nothing_left(runtime_dir)
    assert file_in(image, "/said") == b"from inside\n"


def test_the_next_start_finds_what_two_that_were_killed_have_left(
    guest: Guest, debian_kernel: Path, runtime_dir: Path, tmp_path: Path
) -> None:
    xennerd = _xennerd(runtime_dir)
    # Stopped, it does not see that the other one is gone.
    os.kill(xennerd, signal.SIGSTOP)
    guest.process.kill()
    guest.process.communicate()
    os.kill(xennerd, signal.SIGKILL)
    assert _users(runtime_dir)
    # A directory is no disk, which blkbackd says.
    after = _start(debian_kernel, tmp_path, runtime_dir, tmp_path)
    assert after.end()[0] == 1
    _wait_nothing_left(runtime_dir)


def test_a_disk_that_is_not_there_is_one_line(
    usable_kvm: None, debian_kernel: Path, runtime_dir: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "none.img"
    guest = _start(debian_kernel, tmp_path, runtime_dir, missing)
    status, said = guest.end()
    assert status == 2
    assert said == f"xenner: xvda: {missing}: No such file or directory\n"
    _wait_nothing_left(runtime_dir)
