# SPDX-License-Identifier: GPL-2.0-or-later
"""`make coverage`: which lines and branches the fast floors take.

Python's by coverage.py, for tests/component also in the daemons that it starts;
C's by gcov, of the sources that tests/native compiles for the host.
coverage.toml has for each floor of tests and each room what it may not fall
below. Not a part of `make check`: Python takes twice as long under it.

    python -m tests.environments.coverage [unit|native|component]...
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
OUTPUT = TOP / "build/coverage"
FLOORS = Path(__file__).with_name("coverage.toml")
# What runs at other speeds takes other branches: a test of a race, a retry.
TOLERANCE_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Branches of a room, and how many of them a test has taken."""

    room: str
    taken: int
    branches: int

    @property
    def percent(self) -> float:
        return 100 * self.taken / self.branches if self.branches else 100.0


def _room(path: str) -> str:
    """Of a source, relative to the tree: a package, or a library."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "libs" else parts[0]


def summed(files: Iterable[tuple[str, int, int]]) -> list[Taken]:
    """By room, of files with the branches taken and all there are."""
    rooms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, taken, branches in files:
        rooms[_room(path)][0] += taken
        rooms[_room(path)][1] += branches
    return [Taken(room, *numbers) for room, numbers in sorted(rooms.items())]


def python_files(report: Mapping[str, Any]) -> Iterable[tuple[str, int, int]]:
    """From coverage.py's JSON. Lines count as well: a test may not enter a
    function that has no branch."""
    for path, file in report["files"].items():
        summary = file["summary"]
        yield (
            path,
            summary["covered_lines"] + summary["covered_branches"],
            summary["num_statements"] + summary["num_branches"],
        )


def c_files(
    reports: Iterable[Mapping[str, Any]], top: Path
) -> Iterable[tuple[str, int, int]]:
    """From gcov's JSON, of all programs that a source is part of."""
    found: dict[str, dict[tuple[int, int], bool]] = defaultdict(dict)
    for report in reports:
        directory = Path(report["current_working_directory"])
        for file in report["files"]:
            path = (directory / file["file"]).resolve()
            if not path.is_relative_to(top):
                continue
            name = str(path.relative_to(top))
            if name.split("/")[0] == "tests" or path.suffix != ".c":
                continue
            for line in file["lines"]:
                # Each line is one, and each way on from it.
                counts = [line["count"]]
                counts += [way["count"] for way in line["branches"]]
                for number, count in enumerate(counts):
                    at = line["line_number"], number
                    found[name][at] = found[name].get(at, False) or count > 0
    for name, ways in found.items():
        yield name, sum(ways.values()), len(ways)


def below(taken: Sequence[Taken], floors: Mapping[str, float]) -> list[str]:
    """Rooms that have fallen; one that is new has no floor yet."""
    return [
        f"{each.room}: {each.percent:.1f} %, floor {floors[each.room]}"
        for each in taken
        if each.percent < floors.get(each.room, 0) - TOLERANCE_PERCENT
    ]


def table(taken: Sequence[Taken], floors: Mapping[str, float]) -> str:
    rows = [
        f"{each.room:<24} {each.percent:5.1f} %  of {each.branches:6} "
        f" floor {floors.get(each.room, 0):5.1f}"
        for each in taken
    ]
    return "\n".join(rows)


def _run_python(floor: str) -> int:
    data = OUTPUT / floor
    for path in OUTPUT.glob(f"{floor}*"):
        path.unlink()
    words = [sys.executable, "-m", "coverage"]
    environment = {**os.environ, "COVERAGE_FILE": str(data)}

    def run(*more: str) -> int:
        return subprocess.run(
            [*words, *more], cwd=TOP, env=environment, check=False
        ).returncode

    # The labs have their own Python.
    tests = f"tests/{floor}"
    status = run("run", "-m", "pytest", "-q", tests, f"--ignore={tests}/lab")
    run("combine", "-q")
    return run("json", "-q", "-i", "-o", f"{data}.json") or status


def _run_c() -> int:
    directory = OUTPUT / "native"
    shutil.rmtree(directory, ignore_errors=True)
    flags = "--coverage -fprofile-update=atomic"
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "tests/native"),
            # What steps through the engine, and what clang compiles.
            *("-k", "not killed and not target", f"--basetemp={directory}"),
        ],
        cwd=TOP,
        env={**os.environ, "XENNER_NATIVE_FLAGS": flags},
        check=False,
    ).returncode


def _gcov_reports() -> Iterable[Mapping[str, Any]]:
    for counted in sorted((OUTPUT / "native").rglob("*.gcda")):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout", "-b", counted],
            cwd=TOP,
            capture_output=True,
            check=False,
        )
        # gcc names both core.c of a program's alike: neither is counted.
        if done.returncode == 0:
            for line in done.stdout.splitlines():
                yield json.loads(line)


def main() -> int:
    """0 if all tests pass and no room has fallen."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    floors = tomllib.loads(FLOORS.read_text())
    is_good = True
    for floor in sys.argv[1:] or ("unit", "native", "component"):
        if floor == "native":
            status = _run_c()
            files = c_files(_gcov_reports(), TOP)
        else:
            status = _run_python(floor)
            text = (OUTPUT / f"{floor}.json").read_text()
            files = python_files(json.loads(text))
        taken = summed(files)
        least = floors.get(floor, {})
        fallen = below(taken, least)
        print(f"\n{floor}: lines and branches\n{table(taken, least)}")
        for line in fallen:
            print(f"fallen: {line}")
        is_good &= not fallen and not status
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
