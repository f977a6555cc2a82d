# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd's engine on the host, under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.compiling import EXTRA_FLAGS

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CSRC = TOP / "netbackd/csrc"

FLAGS = [
    *EXTRA_FLAGS,
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(),
    *"-fsanitize=address,undefined -fno-sanitize-recover=all".split(),
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    f"-I{TOP}",
]
# A domain is a domain: the block engine's.
_ENGINE = [HERE / "blk_fakes.c", *sorted(CSRC.glob("*.c"))]
SOURCES = {
    "net_packet": [CSRC / "packet.c"],
    "net_engine": _ENGINE,
    "net_engine WITH_LIBRARIES_OF_XEN": _ENGINE,
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
        timeout=120,
        env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    report = result.stdout[-3000:] + result.stderr[-3000:]
    assert result.returncode == 0, report
    assert "PASS " in result.stdout, report
    assert "FAIL " not in result.stdout, report
