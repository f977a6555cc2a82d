# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of coverage.py and gcov, summed by room and held to their floors."""

from pathlib import Path
from typing import Any

from tests.environments.coverage import (
    Taken,
    below,
    c_files,
    python_files,
    summed,
    table,
)


def python_file(taken: int, of: int) -> dict[str, Any]:
    return {
        "summary": {
            **{"covered_lines": taken, "num_statements": of},
            **{"covered_branches": 1, "num_branches": 2},
        }
    }


def test_rooms_are_packages() -> None:
    files = {
        "xenner/a.py": python_file(3, 4),
        "xenner/b/c.py": python_file(0, 4),
        "evtchnd/d.py": python_file(4, 4),
    }
    assert summed(python_files({"files": files})) == [
        Taken("evtchnd", 5, 6),
        Taken("xenner", 5, 12),
    ]


def gcov(top: Path, name: str, *lines: tuple[int, int, list[int]]) -> Any:
    return {
        "current_working_directory": str(top),
        "files": [
            {
                "file": name,
                "lines": [
                    {
                        "line_number": number,
                        "count": count,
                        "branches": [{"count": way} for way in ways],
                    }
                    for number, count, ways in lines
                ],
            }
        ],
    }


def test_what_one_of_two_programs_takes_is_taken(tmp_path: Path) -> None:
    reports = [
        gcov(tmp_path, "libs/call/core.c", (1, 5, [5, 0]), (2, 0, [])),
        gcov(tmp_path, "libs/call/core.c", (1, 1, [0, 1]), (2, 0, [])),
        gcov(tmp_path, "tests/native/a.c", (1, 5, [])),
        gcov(tmp_path, "/usr/include/a.h", (1, 5, [])),
    ]
    assert summed(c_files(reports, tmp_path)) == [Taken("libs/call", 3, 4)]


def test_a_room_that_falls_is_named() -> None:
    taken = [Taken("emu", 80, 100), Taken("new", 0, 10), Taken("xenner", 5, 5)]
    floors = {"emu": 81.5, "xenner": 100.0}
    assert below(taken, floors) == ["emu: 80.0 %, floor 81.5"]
    assert below(taken, {"emu": 80.9}) == []
    assert "emu" in table(taken, floors)
