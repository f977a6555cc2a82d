# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM process proves that its guest's processors can be had back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.guests.build import guest_path
from tests.kvm.xenner import Xenner

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.environments("host"),
    pytest.mark.usefixtures("guests_built"),
]


@pytest.mark.parametrize(
    ("end", "options"), [("idle", []), ("loop", []), ("idle", ["-S"])]
)
def test_however_busy_the_guest_is(
    xenner: Xenner, tmp_path: Path, end: str, options: list[str]
) -> None:
    guest = guest_path("ending", "high")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(limit_s(30))
        with subprocess.Popen(
            xenner.command(guest, "-append", f"end={end}", *options),
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "300000",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                count = 0
                while count < 5:
                    count += manager.recv(4096) == b"WATCHDOG=1"
                assert process.poll() is None
                process.send_signal(signal.SIGTERM)
                process.wait(limit_s(20))
            finally:
                process.kill()
