# SPDX-License-Identifier: GPL-2.0-or-later
"""Compile the test guests: tiny PV kernels, one ELF file per guest and flavour.

Run as ``python3 tests/guests/build.py [NAME...]`` from anywhere; the results
stand in ``build/tests/guests/<name>.<flavour>``.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
LIBRARY = HERE / "lib"
OUTPUT = TOP / "build" / "tests" / "guests"

COMPILE = (
    "gcc -std=gnu11 -O2 -g -ffreestanding -fpie -fvisibility=hidden "
    "-mno-red-zone -mgeneral-regs-only -fno-stack-protector "
    "-fcf-protection=none -fno-asynchronous-unwind-tables "
    "-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes "
    "-Wmissing-prototypes -Wundef -Wwrite-strings -Wvla "
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__"
).split() + [f"-I{TOP}"]
LINK = (
    "ld -static -no-pie -nostdlib --no-warn-rwx-segments -z noexecstack "
    "--build-id=none"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One boot of a guest: what it is given and what must come of it."""

    id: str
    append: str = ""
    memory_mib: int = 32
    initrd_bytes: int = 0
    options: tuple[str, ...] = ("-no-reboot",)
    status: int = 0
    expect_stderr: tuple[str, ...] = ()
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One source file, the ways it is linked and the ways it is booted."""

    name: str
    flavours: tuple[str, ...]
    runs: tuple[Run, ...]


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    """TOML's lists as tuples, for frozen values."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
    }


def load_guests(table: Path = HERE / "guests.toml") -> tuple[Guest, ...]:
    """Read the table of guests, in the order in which they are to run."""
    data = tomllib.loads(table.read_text())
    guests = []
    for name, entry in data["guest"].items():
        runs = tuple(
            Run(**_frozen(run)) for run in entry.get("run", [{"id": "default"}])
        )
        guests.append(
            Guest(name=name, flavours=tuple(entry["flavours"]), runs=runs)
        )
    return tuple(guests)


def cases_in(environment: str, table: Path = HERE / "guests.toml") -> set[str]:
    """Which cases, named GUEST.FLAVOUR-RUN, the table has for an environment.

    ValueError if a pattern of the table stands for no case.
    """
    every = {
        f"{guest.name}.{flavour}-{run.id}"
        for guest in load_guests(table)
        for flavour in guest.flavours
        for run in guest.runs
    }
    environments = tomllib.loads(table.read_text())["environment"]
    if environment not in environments:
        return every
    chosen: set[str] = set()
    for pattern in environments[environment]["only"]:
        found = fnmatch.filter(every, pattern)
        if not found:
            raise ValueError(f"{table.name}: {environment}: no case {pattern}")
        chosen.update(found)
    return chosen


def load_flavours(
    table: Path = HERE / "guests.toml",
) -> dict[str, tuple[str, ...]]:
    """Preprocessor definitions of each flavour, by its name."""
    flavours: Mapping[str, Mapping[str, object]] = tomllib.loads(
        table.read_text()
    )["flavour"]
    return {
        name: tuple(
            f"-DGUEST_{key.upper()}={value}" for key, value in entry.items()
        )
        for name, entry in flavours.items()
    }


def guest_path(name: str, flavour: str) -> Path:
    """Where build() leaves a guest."""
    return OUTPUT / f"{name}.{flavour}"


def guest_paths() -> list[Path]:
    """Where build() leaves them all."""
    return [
        guest_path(guest.name, flavour)
        for guest in load_guests()
        for flavour in guest.flavours
    ]


def _newest(paths: Iterable[Path]) -> float:
    return max(path.stat().st_mtime for path in paths)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=TOP)


def _compile(
    source: Path,
    target: Path,
    *,
    inputs_time: float,
    defines: tuple[str, ...] = (),
) -> Path:
    if not target.exists() or target.stat().st_mtime < max(
        inputs_time, source.stat().st_mtime
    ):
        # Each object appears whole or not at all: builds may run side by side.
        partial = target.with_suffix(f".{os.getpid()}.o")
        _run([*COMPILE, *defines, "-c", str(source), "-o", str(partial)])
        partial.replace(target)
    return target


def _link(objects: list[Path], target: Path, script: Path) -> None:
    if target.exists() and target.stat().st_mtime >= _newest(
        [*objects, script]
    ):
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    _run([*LINK, "-T", str(script), *map(str, objects), "-o", str(partial)])
    partial.replace(target)


def _script(flavour: str, defines: tuple[str, ...]) -> Path:
    source, target = LIBRARY / "guest.lds.S", OUTPUT / f"{flavour}.lds"
    headers_time = _newest(LIBRARY.glob("*.h"))
    if not target.exists() or target.stat().st_mtime < max(
        headers_time, source.stat().st_mtime
    ):
        partial = target.with_suffix(f".{os.getpid()}")
        _run(
            [
                "gcc",
                "-E",
                "-P",
                "-x",
                "assembler-with-cpp",
                f"-I{TOP}",
                *defines,
                str(source),
                "-o",
                str(partial),
            ]
        )
        partial.replace(target)
    return target


def build(names: Iterable[str] = ()) -> list[Path]:
    """Bring the named guests (all, when none is named) up to date.

    Raises subprocess.CalledProcessError when the compiler refuses one; its
    messages have gone to standard error.
    """
    OUTPUT.mkdir(parents=True, exist_ok=True)
    wanted = set(names)
    flavours = load_flavours()
    headers_time = max(
        _newest(LIBRARY.glob("*.h")), Path(__file__).stat().st_mtime
    )
    library = [
        _compile(
            source, OUTPUT / f"lib-{source.stem}.o", inputs_time=headers_time
        )
        for source in sorted(LIBRARY.glob("*.c"))
    ]
    built = []
    for guest in load_guests():
        if wanted and guest.name not in wanted:
            continue
        main = _compile(
            HERE / f"{guest.name}.c",
            OUTPUT / f"{guest.name}.o",
            inputs_time=headers_time,
        )
        for flavour in guest.flavours:
            defines = flavours[flavour]
            head = _compile(
                LIBRARY / "head.S",
                OUTPUT / f"head-{flavour}.o",
                inputs_time=headers_time,
                defines=defines,
            )
            target = guest_path(guest.name, flavour)
            _link([head, *library, main], target, _script(flavour, defines))
            built.append(target)
    return built


def main() -> int:
    """Build what the command line names."""
    known = {guest.name for guest in load_guests()}
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        print(
            f"build.py: no guest named {unknown[0]} in guests.toml",
            file=sys.stderr,
        )
        return 2
    try:
        for path in build(sys.argv[1:]):
            print(path.relative_to(TOP))
    except subprocess.CalledProcessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
