# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd's engine on the host, under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.compiling import EXTRA_FLAGS

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CSRC = TOP / "blkbackd/csrc"

FLAGS = [
    *EXTRA_FLAGS,
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(),
    *"-fsanitize=address,undefined -fno-sanitize-recover=all".split(),
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    f"-I{TOP}",
    # For blk_submitted.c.
    "-Wl,--wrap=syscall,--wrap=pthread_create",
]
ENVIRONMENT = {
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # A string instruction is a step for each byte to blk_killed.
    "GLIBC_TUNABLES": "glibc.cpu.x86_rep_stosb_threshold=1000000000",
}
_ENGINE = [
    HERE / "blk_fakes.c",
    HERE / "blk_submitted.c",
    *sorted(CSRC.glob("*.c")),
]
SOURCES = {
    "blk_request": [CSRC / "request.c"],
    "blk_engine": _ENGINE,
    "blk_engine WITH_LIBRARIES_OF_XEN": _ENGINE,
    "blk_hostile": _ENGINE,
    "blk_killed": _ENGINE,
    "blk_record": _ENGINE,
}


@pytest.mark.parametrize("program", sorted(SOURCES))
def test_program(program: str, tmp_path: Path) -> None:
    name, *defines = program.split()
    binary = tmp_path / name
    sources = [HERE / f"{name}.c", *SOURCES[program]]
    flags = [*FLAGS, *(f"-D{define}" for define in defines)]
    built = subprocess.run(
        ["gcc", *flags, *map(str, sources), "-o", str(binary)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert built.returncode == 0, built.stderr
    result = subprocess.run(
        [str(binary)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=300,
        env={**os.environ, **ENVIRONMENT},
    )
    report = result.stdout[-3000:] + result.stderr[-3000:]
    assert result.returncode == 0, report
    assert "PASS " in result.stdout, report
    assert "FAIL " not in result.stdout, report
