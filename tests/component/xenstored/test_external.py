# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's own stores in the place of ours: XENNER_XENSTORED."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP, Daemon, library, open_daemon
from tests.support.xenstored import UNPACKED, program

STORE = (sys.executable, "-m", "xenstored")
# oxenstored has its socket compiled in: it sees a /run of its own.
PRIVATE_RUN = """\
mount -t tmpfs none /mnt && mkdir /mnt/run && mount --bind "$0" /mnt/run &&
mount -t tmpfs none /run && mkdir /run/xenstored &&
mount --bind /mnt/run /run/xenstored && exec "$@"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with open_daemon(tmp_path) as daemon:
        yield daemon


def environment(daemon: Daemon, line: str) -> dict[str, str]:
    libs = (library("xenevtchn").parent, UNPACKED / "x86_64-linux-gnu")
    return {
        **daemon.environment(),
        "LD_LIBRARY_PATH": ":".join(map(str, libs)),
        "XENNER_XENSTORED": line,
        "XENSTORED_PATH": str(daemon.runtime_dir / "xs/socket"),
    }


@pytest.mark.parametrize("name", ["xenstored", "oxenstored"])
def test_one_line_makes_it_the_store(name: str, daemon: Daemon) -> None:
    surroundings = environment(daemon, str(program(name)))
    directory = daemon.runtime_dir / "xs"
    directory.mkdir()
    command = [*STORE, "--runtime-dir", str(daemon.runtime_dir), "--socket"]
    if name == "xenstored":
        command.append(str(directory / "socket"))
    else:
        command.append("/run/xenstored/socket")
        command = [
            *("unshare", "-m", "sh", "-c", PRIVATE_RUN, str(directory)),
            *command,
        ]
    with subprocess.Popen(
        command, env=surroundings, stdout=subprocess.PIPE, cwd=TOP
    ) as process:
        try:
            assert process.stdout is not None
            # What the program says of itself comes before.
            assert b"listening\n" in iter(process.stdout.readline, b"")
            children = Path(
                f"/proc/{process.pid}/task/{process.pid}/children"
            ).read_text()
            exe = os.readlink(f"/proc/{children.split()[0]}/exe")
            assert Path(exe).name == name
            for tool in (("write", "/tool/x", "1"), ("read", "/tool/x")):
                said = subprocess.run(
                    [f"xenstore-{tool[0]}", *tool[1:]],
                    env=surroundings,
                    check=True,
                    capture_output=True,
                    timeout=limit_s(20),
                ).stdout
            assert said == b"1\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(limit_s(20)) == 0
        finally:
            process.kill()
    assert not Path(f"/proc/{children.split()[0]}").exists()


@pytest.mark.parametrize(
    ("line", "socket", "status", "complaint"),
    [
        ("/bin/false", "socket", 1, "false has ended: status 1"),
        ("/nowhere/xenstored", "socket", 1, "No such file"),
        ("/bin/false", "other", 2, "is called `socket`"),
        ("oxenstored", "socket", 2, "oxenstored serves"),
        ("  ", "socket", 2, "no program"),
    ],
)
def test_what_cannot_take_its_place(
    line: str, socket: str, status: int, complaint: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*STORE, "--socket", tmp_path / socket],
        env={**os.environ, "XENNER_XENSTORED": line},
        capture_output=True,
        text=True,
        timeout=limit_s(20),
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
