# SPDX-License-Identifier: GPL-2.0-or-later
"""libs/ on the host, under AddressSanitizer and UBSan: the libs_*.c here.

They are linked with the libraries' sources, without those that stand in
for open(2) and setrlimit(2).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.compiling import EXTRA_FLAGS
from tests.support.evtchnd import open_daemon

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent

FLAGS = [
    *EXTRA_FLAGS,
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(),
    *"-fsanitize=address,undefined -fno-sanitize-recover=all".split(),
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    "-D_GNU_SOURCE",
    f"-I{TOP}",
]
SOURCES = {
    "libs_call": ("client", "call"),
    "libs_client": ("client", "evtchn"),
    "libs_evtchn": ("client", "evtchn"),
    "libs_memory": ("client", "gnttab", "foreignmemory"),
    "libs_memory_random": ("client", "gnttab", "foreignmemory"),
}


def _build(program: str, directory: Path) -> Path:
    sources = [
        str(path)
        for room in SOURCES[program]
        for path in sorted((TOP / "libs" / room).glob("*.c"))
        if path.name not in ("xsd.c", "rlimit.c")
    ]
    binary = directory / program
    result = subprocess.run(
        ["gcc", *FLAGS, f"{HERE}/{program}.c", *sources, "-o", str(binary)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return binary


def _run(binary: Path, runtime_dir: Path) -> None:
    result = subprocess.run(
        [str(binary)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "XENNER_RUNTIME_DIR": str(runtime_dir),
        },
    )
    report = result.stdout[-3000:] + result.stderr[-3000:]
    assert result.returncode == 0, report
    assert "PASS " in result.stdout, report
    assert "FAIL " not in result.stdout, report


@pytest.mark.parametrize("program", [*SOURCES.keys() - {"libs_evtchn"}])
def test_alone(program: str, tmp_path: Path) -> None:
    _run(_build(program, tmp_path), tmp_path)


def test_with_evtchnd(tmp_path: Path) -> None:
    binary = _build("libs_evtchn", tmp_path)
    with open_daemon(tmp_path):
        _run(binary, tmp_path)
