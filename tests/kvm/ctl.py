# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerctl on a test's own host."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP
from tests.support.services import Host


class Ctl:
    """Runs it; called, it must succeed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.environment = {
            **os.environ,
            "XENNER_RUNTIME_DIR": str(host.directory),
            "XENSTORED_PATH": str(host.socket),
            "XENNER_LOG_DIR": str(host.directory / "log"),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xennerd.ctl", *words],
            cwd=TOP,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s(60),
        )

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def has_guests(self) -> bool:
        """Is any domain listed?"""
        # A heading and domain 0 are always there.
        return len(self("list").splitlines()) > 2
