# SPDX-License-Identifier: GPL-2.0-or-later
"""Each daemon proves that it serves, for as long as it does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.environments.rules import limit_s
from tests.support.evtchnd import LIBS, TOP, library


@contextmanager
def fed(
    directory: Path, name: str, *words: str | Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that a service manager waits for, after its fifth proof."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = directory / f"notify.{name}"
        manager.bind(str(path))
        manager.settimeout(limit_s(30))
        with subprocess.Popen(
            [sys.executable, "-m", name, *words],
            cwd=TOP,
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(LIBS),
                "XENNER_RUNTIME_DIR": str(directory),
                "XENSTORED_PATH": str(directory / "xenstore"),
                "NOTIFY_SOCKET": str(path),
                "WATCHDOG_USEC": "200000",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                seen: list[bytes] = []
                while seen.count(b"WATCHDOG=1") < 5:
                    seen.append(manager.recv(4096))
                assert seen[0].startswith(b"READY=1")
                # Who has ended reads no more, and nobody may wait for that.
                manager.close()
                yield process
                # Still: what it opens for each proof it closes.
                assert process.poll() is None
                process.terminate()
                assert process.wait(limit_s(20)) == 0
            finally:
                process.kill()


def test_daemons_are_heard_of(tmp_path: Path) -> None:
    library("xenevtchn")
    evtchnd, store = tmp_path / "evtchnd.socket", tmp_path / "xenstore"
    with ExitStack() as stack:
        start = stack.enter_context
        process = start(fed(tmp_path, "evtchnd", "--socket", evtchnd))
        nr_fds = len(os.listdir(f"/proc/{process.pid}/fd"))
        start(
            fed(
                *(tmp_path, "xenstored", "--socket", store),
                *("--evtchnd", evtchnd, "--runtime-dir", tmp_path),
            )
        )
        start(fed(tmp_path, "blkbackd"))
        units = tmp_path / "units.socket"
        start(fed(tmp_path, "xennerd.units", "--socket", units))
        start(
            fed(
                *(tmp_path, "xennerd.supervisor", "--units"),
                *("--runtime-dir", tmp_path, "--xenstore", store),
            )
        )
        # A handful for those that have come, none for each proof.
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < nr_fds + 30
