# SPDX-License-Identifier: GPL-2.0-or-later
"""The targets, how each is built and run, and the inputs that are kept."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CLANG = "clang"
MAX_BYTES = 4096
_FLAGS = [
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(),
    *"-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all".split(),
    # llvm.org: its runtime calls functions by other types than they have.
    "-fno-sanitize=function",
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    f"-I{TOP}",
]
_FAKES = TOP / "tests/native/blk_fakes.c"


def _csrc(package: str) -> list[Path]:
    return sorted((TOP / package / "csrc").glob("*.c"))


IN_C: Mapping[str, Sequence[Path]] = {
    "blk_request": [TOP / "blkbackd/csrc/request.c"],
    "blk_ring": [_FAKES, *_csrc("blkbackd")],
    "net_packet": [TOP / "netbackd/csrc/packet.c"],
    "net_rings": [_FAKES, *_csrc("netbackd")],
}
# Of readers.py, which is imported under atheris' eyes alone.
IN_PYTHON = (
    *("kernel", "elf", "bzimage", "notes", "xlcfg"),
    *("storewire", "rings", "qmp", "evtchnd"),
)
NAMES = (*IN_C, *IN_PYTHON)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """How a run ended, what it said, and the input that it failed with."""

    status: int
    said: str
    failing: bytes | None

    @property
    def line(self) -> str:
        """What a corpus file has of the input."""
        return "" if self.failing is None else to_line(self.failing)


def command(name: str, directory: Path) -> list[str]:
    """A target's program; one in C is compiled into `directory` first."""
    if name in IN_PYTHON:
        return [sys.executable, "-m", "tests.targets", name]
    binary = directory / name
    subprocess.run(
        [CLANG, *_FLAGS, HERE / f"{name}.c", *IN_C[name], "-o", binary],
        check=True,
        timeout=240,
    )
    return [str(binary)]


def corpus_path(name: str) -> Path:
    return HERE / "corpus" / f"{name}.txt"


def to_line(data: bytes) -> str:
    """As Python writes it, and a byte that comes often as a product."""
    parts = []
    at = 0
    for run in re.finditer(rb"(.)\1{15,}", data, re.DOTALL):
        if run.start() > at:
            parts.append(repr(data[at : run.start()]))
        parts.append(f"{run[1]!r} * {len(run[0])}")
        at = run.end()
    if at < len(data) or not data:
        parts.append(repr(data[at:]))
    return " + ".join(parts)


def from_line(line: str) -> bytes:
    """ValueError if to_line() does not write such a line."""

    def value(node: ast.AST) -> bytes:
        match node:
            case ast.Constant(bytes() as data):
                return data
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Mult(), ast.Constant(int() as count)):
                return value(left) * count
        raise ValueError(line)

    return value(ast.parse(line, mode="eval").body)


def read_corpus(name: str) -> list[bytes]:
    """The inputs that are kept; lines with a # say why."""
    return [
        from_line(line)
        for line in corpus_path(name).read_text().splitlines()
        if line and not line.startswith("#")
    ]


def unpack(name: str, directory: Path) -> None:
    """An input a file, as libFuzzer has it."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in read_corpus(name):
        (directory / hashlib.sha1(data).hexdigest()).write_bytes(data)


def fuzz(name: str, directory: Path, *options: str, limit_s: float) -> Fuzzed:
    """Run a target with options, and directories of inputs, of libFuzzer's."""
    found = directory / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    done = subprocess.run(
        [
            *command(name, directory),
            *(f"-max_len={MAX_BYTES}", f"-artifact_prefix={found}/"),
            *("-rss_limit_mb=4096", "-timeout=60", *options),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=TOP,
        env={
            **os.environ,
            # Of a frozen order: a run with a fixed seed is the same again.
            "PYTHONHASHSEED": "0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        timeout=limit_s,
        check=False,
    )
    failing = next((path.read_bytes() for path in found.iterdir()), None)
    return Fuzzed(
        done.returncode, done.stdout.decode(errors="replace"), failing
    )
