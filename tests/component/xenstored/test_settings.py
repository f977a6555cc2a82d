# SPDX-License-Identifier: GPL-2.0-or-later
"""Each daemon reads the one file, and says what is wrong there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.support.evtchnd import LIBS, TOP


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("evtchnd", "evtchnd", ["--socket"]),
        ("xenstored", "xenstore", ["--socket"]),
        ("blkbackd", "blkbackd", []),
        ("netbackd", "netbackd", []),
    ],
)
def test_it_is_refused(
    tmp_path: Path, module: str, name: str, words: list[str]
) -> None:
    file = tmp_path / "xenner.toml"
    file.write_text("[evtchnd]\nmax_fds = 'all'\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", module, *words),
            *([tmp_path / "socket"] if words else []),
        ],
        cwd=TOP,
        env={
            **os.environ,
            "XENNER_CONFIG": str(file),
            "LD_LIBRARY_PATH": str(LIBS),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(60),
    )
    said = f"{file}:2: evtchnd.max_fds: a whole number, not below 0"
    assert (done.returncode, done.stderr) == (2, f"{name}: {said}\n")
