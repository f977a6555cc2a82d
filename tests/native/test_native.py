# SPDX-License-Identifier: GPL-2.0-or-later
"""emu's C on the host, under AddressSanitizer and UBSan.

Each test_*.c here is a program of its own; it is compiled with emu's sources
and a shim for what only ring 0 can do (shim/, emu_native.c).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.environments.programs import emu_sources
from tests.native.compiling import EXTRA_FLAGS

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent

FLAGS = [
    *EXTRA_FLAGS,
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-unused-parameter".split(),
    *"-fsanitize=address,undefined -fno-sanitize-recover=all".split(),
    # ABI structures stand at the addresses that a guest chose.
    "-fno-sanitize=alignment",
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    f"-I{HERE}/shim",
    f"-I{TOP}",
]


def _link(*sources: Path, output: Path) -> None:
    result = subprocess.run(
        ["gcc", *FLAGS, *map(str, sources), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr


def _object(source: Path, directory: Path) -> Path:
    output = directory / f"{source.stem}.o"
    if not output.exists():
        result = subprocess.run(
            ["gcc", *FLAGS, "-c", str(source), "-o", str(output)],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def object_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.mark.parametrize(
    "program", sorted(path.stem for path in HERE.glob("test_*.c"))
)
def test_program(program: str, object_dir: Path) -> None:
    source = HERE / f"{program}.c"
    text = source.read_text()
    # A program that includes a source of emu's has it already.
    sources = [
        path
        for path in emu_sources("emu_portable")
        if f'#include "emu/{path.name}"' not in text
    ]
    objects = [_object(path, object_dir) for path in sources]
    objects.append(_object(HERE / "emu_native.c", object_dir))
    binary = object_dir / program
    _link(source, *objects, output=binary)
    result = subprocess.run(
        [str(binary)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    report = result.stdout[-3000:] + result.stderr[-3000:]
    assert result.returncode == 0, report
    assert "PASS " in result.stdout, report
    assert "FAIL " not in result.stdout, report
