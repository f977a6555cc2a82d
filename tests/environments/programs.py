# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that tests run and that are compiled.

There is no compiler but on the host: the other environments get what was made
there. All of it stands in build/tests.
"""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.environments.rules import Environment, current_environment
from tests.guests.build import build as build_guests
from tests.guests.build import guest_paths

TOP = Path(__file__).resolve().parents[2]
OUTPUT = TOP / "build/tests"


def _made(
    target: Path, sources: Sequence[Path], make: Callable[[Path], None]
) -> Path:
    """`target`, made first if a source is newer; only looked for elsewhere
    than on the host. `make` gets the path to write to."""
    if current_environment() is not Environment.HOST:
        if not target.exists():
            raise FileNotFoundError(f"{target} did not come from the host")
        return target
    newest = max(path.stat().st_mtime for path in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        # It appears whole or not at all: others may do the same right now.
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        make(partial)
        partial.replace(target)
    return target


def torture() -> Path:
    """The program that runs in Debian's guest and outside of it."""
    sources = sorted((TOP / "tests/torture").glob("*.[ch]"))
    flags = "-O1 -Wall -static -mavx2 -pthread".split()

    def make(output: Path) -> None:
        text = [path for path in sources if path.suffix == ".c"]
        subprocess.run(["gcc", *flags, "-o", output, *text], check=True)

    return _made(OUTPUT / "torture", sources, make)


def fuzz() -> Path:
    """The program that attacks the guest that it runs in, and nothing else."""
    sources = sorted((TOP / "tests/fuzz").glob("*.[ch]"))
    flags = (
        "-O1 -Wall -Wextra -Werror -static -pthread -mno-red-zone "
        "-fno-stack-protector -fcf-protection=none"
    ).split()

    def make(output: Path) -> None:
        text = [path for path in sources if path.suffix == ".c"]
        subprocess.run(["gcc", *flags, "-o", output, *text], check=True)

    return _made(OUTPUT / "fuzz", sources, make)


def emu_sources(*names: str) -> list[Path]:
    """The files of these lists of emu/meson.build."""
    text = (TOP / "emu/meson.build").read_text()
    return [
        TOP / "emu" / file
        for name in names
        for listed in re.findall(rf"^{name} = files\(([^)]*)\)", text, re.M)
        for file in re.findall(r"'(.*?)'", listed)
    ]


def emu_address(symbol: str) -> int:
    """Where a symbol of emu's is in every guest."""
    emu = TOP / "xennerd/vm/boot/emu64"

    def make(output: Path) -> None:
        with output.open("wb") as file:
            subprocess.run(["nm", emu], check=True, stdout=file)

    listing = _made(OUTPUT / "emu.symbols", [emu], make).read_text()
    return next(
        int(words[0], 16)
        for words in map(str.split, listing.splitlines())
        if words[2:] == [symbol]
    )


def int80() -> Path:
    """A 32-bit program that needs no more than int 0x80."""
    source = TOP / "tests/torture/int80/int80.c"
    flags = (
        "-m32 -O1 -Wall -nostdlib -static -no-pie -fno-pie -ffreestanding "
        "-mgeneral-regs-only -fno-stack-protector -fcf-protection=none"
    ).split()

    def make(output: Path) -> None:
        subprocess.run(["gcc", *flags, "-o", output, source], check=True)

    return _made(OUTPUT / "int80", [source], make)


# Parts of tests/torture that are the same in 32 bits.
_IN_BOTH = ("parts", "processes", "memory")


def torture32() -> Path:
    """Its counterpart of 32 bits, with the parts that are the same there."""
    directory = TOP / "tests/torture"
    shared = [directory / f"{name}.c" for name in _IN_BOTH]
    sources = [
        *sorted((directory / "i386").glob("*.[ch]")),
        *shared,
        directory / "torture.h",
    ]
    flags = (
        "-m32 -O1 -Wall -static -no-pie -fno-pie -msse2 -mfpmath=387 -pthread"
    ).split()

    def make(output: Path) -> None:
        text = [path for path in sources if path.suffix == ".c"]
        subprocess.run(["gcc", *flags, "-o", output, *text], check=True)

    return _made(OUTPUT / "torture32", sources, make)


def tiny() -> Path:
    """The kernel of one page, tests/component/vm/tiny.S."""
    source = TOP / "tests/component/vm/tiny.S"

    def make(output: Path) -> None:
        command: list[str | Path] = [
            *"gcc -nostdlib -static -no-pie".split(),
            "-Wl,--build-id=none,-Ttext-segment=0xffffffff80001000",
            "-Wl,-z,max-page-size=4096,-z,noexecstack",
            *("-o", output, source),
        ]
        subprocess.run(command, check=True)

    return _made(OUTPUT / "tiny", [source], make)


def tiny_symbols() -> dict[str, int]:
    """Addresses of the tiny kernel's symbols."""

    def make(output: Path) -> None:
        with output.open("wb") as listing:
            subprocess.run(["nm", kernel], check=True, stdout=listing)

    kernel = tiny()
    listing = _made(OUTPUT / "tiny.symbols", [kernel], make).read_text()
    rows = (line.split() for line in listing.splitlines())
    return {name: int(address, 16) for address, _, name in rows}


def guests() -> list[Path]:
    """All test guests. FileNotFoundError, elsewhere than on the host, if one
    was not compiled there."""
    if current_environment() is Environment.HOST:
        return build_guests()
    missing = [str(path) for path in guest_paths() if not path.exists()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} did not come from the host")
    return guest_paths()


def make_all() -> None:
    """Everything that travels. CalledProcessError if a compiler refuses."""
    torture()
    fuzz()
    emu_address("start")
    torture32()
    int80()
    tiny_symbols()
    guests()
