# SPDX-License-Identifier: GPL-2.0-or-later
"""clang's analyser has nothing to say of our C: it follows values through
branches and calls, to memory that was freed, is not there, or was never set."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.style.tree import files_with_suffix, run_tool

_ROOMS = ("emu", "xenner", "xennerd", "libs", "blkbackd", "netbackd")
_FLAGS = (
    *"-std=gnu11 -D_GNU_SOURCE -I. -Wno-unused-command-line-argument".split(),
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    # A warning is status 1.
    *"--analyze --analyzer-output text -Xclang -analyzer-werror".split(),
)
# As emu/meson.build has them, as far as they change what a line means.
_EMU_FLAGS = "-ffreestanding -mno-red-zone -mgeneral-regs-only".split()


def analyse(path: Path) -> str:
    own = _EMU_FLAGS if path.parts[0] == "emu" else ()
    return run_tool("clang", *_FLAGS, *own, str(path))


def test_clang_finds_nothing() -> None:
    if not shutil.which("clang"):
        pytest.skip("tools: clang is not installed")
    sources = [
        path for path in files_with_suffix(".c") if path.parts[0] in _ROOMS
    ]
    assert len(sources) > 50
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(analyse, sources))
    found = "".join(said)
    if found:
        pytest.fail(found[-6000:], pytrace=False)
