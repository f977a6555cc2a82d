# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd by hand on a test's own host."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.environments.rules import limit_s
from tests.support.evtchnd import LIBS, TOP
from xennerd.qmp.client import QmpClient


@dataclass
class Xennerd:
    """One that can be killed, and started again."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    xenstore: str = "xenstore"
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"LD_LIBRARY_PATH": str(LIBS)}
    )
    inside: Sequence[str] = ()
    """Words before its command line: where it runs."""

    @property
    def socket(self) -> Path:
        return self.directory / "xennerd.socket"

    def start(self) -> None:
        """Until it has started all it needs."""
        directory = self.directory
        (directory / "xennerd.log").touch()
        nr_before = self.log().count("xennerd: ready")
        with (directory / "xennerd.log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    *self.inside,
                    *(sys.executable, "-m", "xennerd.supervisor"),
                    *("--runtime-dir", directory),
                    *("--xenstore", directory / self.xenstore),
                    *("--state-dir", directory / "state"),
                    *("--dump-dir", directory / "dump"),
                    *("--log-dir", directory / "log"),
                ],
                cwd=TOP,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.wait_for(lambda: self.log().count("xennerd: ready") > nr_before)

    def log(self) -> str:
        return (self.directory / "xennerd.log").read_text()

    def ask(self, name: str, **arguments: Any) -> Any:
        """The answer; QmpRefusedError."""
        with QmpClient(
            self.socket, server="xennerd", limit_s=limit_s(60)
        ) as client:
            return client.execute(name, **arguments)

    def wait_for(
        self, is_so: Callable[[], bool], timeout_s: float = 30
    ) -> None:
        """Fails the test with the log."""
        end = time.monotonic() + limit_s(timeout_s)
        while not is_so():
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As a service manager does; without guests its daemons end too."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(limit_s(60)) == 0, self.log()


@contextmanager
def open_xennerd(
    directory: Path, inside: Sequence[str] = ()
) -> Iterator[Xennerd]:
    """It finds the daemons that run there, and starts the others."""
    xennerd = Xennerd(directory, inside=inside)
    try:
        xennerd.start()
        yield xennerd
        xennerd.stop()
    finally:
        if xennerd.process is not None and xennerd.process.poll() is None:
            xennerd.process.kill()
            xennerd.process.wait()
