# SPDX-License-Identifier: GPL-2.0-or-later
"""What the project's own texts must have and must not have."""

import re
from pathlib import Path

import pytest

from tests.style.tree import TOP, files_with_suffix, project_files

_SOURCES = (".py", ".c", ".h", ".S", ".sh", ".toml", ".build", ".ld")
_LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
_LIBRARY_LICENCE = "SPDX-License-Identifier: LGPL-2.1-or-later"
_LEFTOVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
_LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)(#[^)\s]+)?\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@pytest.mark.parametrize("path", files_with_suffix(*_SOURCES), ids=str)
def test_source_names_its_licence(path: Path) -> None:
    head = (TOP / path).read_text().splitlines()[:3]
    # As Xen's own libraries are, which programs of any licence may use.
    licence = _LIBRARY_LICENCE if path.parts[0] == "libs" else _LICENCE
    assert any(licence in line for line in head)


def test_nothing_is_left_over() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in project_files()
        if path.suffix in (*_SOURCES, ".md")
        for number, line in enumerate(
            (TOP / path).read_text().splitlines(), start=1
        )
        if _LEFTOVER.search(line)
    ]
    assert not found, "\n".join(found)


def test_lines_end_as_editors_are_told() -> None:
    """What .editorconfig says of every file."""
    found = []
    for path in project_files():
        text = (TOP / path).read_bytes().decode()
        if text and not text.endswith("\n"):
            found.append(f"{path}: its last line has no end")
        found += [
            f"{path}:{number}"
            for number, line in enumerate(text.split("\n"), start=1)
            if line != line.rstrip() or "\r" in line
        ]
    assert not found, "\n".join(found)


def rooms() -> set[Path]:
    """Directories of source, but those that another one's README is about."""
    found = set()
    for path in files_with_suffix(".py", ".c", ".h", ".S", ".sh"):
        room = path.parent
        if room.parts[:1] == ("tests",):
            # A floor's directories are named as what they test.
            room = Path(*room.parts[:2])
        elif room.name == "csrc":
            room = room.parent
        found.add(room)
    return found


def test_each_room_says_what_it_is() -> None:
    """In at most 25 lines; the top one is for users."""
    missing = [str(room) for room in rooms() if not readme(room).exists()]
    assert not missing, "\n".join(sorted(missing))
    long = [
        f"{room}: {lines} lines"
        for room in rooms() - {Path()}
        if (lines := len(readme(room).read_text().splitlines())) > 25
    ]
    assert not long, "\n".join(sorted(long))


_BESIDE_THE_PRODUCT = {"tests", "bench", "soak", "lab", "demo", "tools"}


def test_the_map_of_rooms_is_true() -> None:
    """Each room of the product has one line, and each file of it is there."""
    text = (TOP / "docs/design.md").read_text().split("\n## Rooms\n")[1]
    rooms_table, files_table = text.split("\nWhere to begin:\n")
    named = re.findall(r"^\| ([a-z/]+) \| ", rooms_table, re.M)
    named.remove("room")
    there = {
        str(room)
        for room in rooms()
        if room.parts and room.parts[0] not in _BESIDE_THE_PRODUCT
    }
    # A door with rooms behind it, and nothing of its own.
    assert sorted(named) == sorted((there | {"units"}) - {"xennerd"})
    begin = files_table.split("\n## ")[0].replace("\\_", "_")
    rows = re.findall(r"^\| an? .* \| [a-z/]+ \| (.*) \|$", begin, re.M)
    assert len(rows) == 10
    for row in rows:
        files = row.split(", ")
        assert len(files) <= 3
        assert [file for file in files if not (TOP / file).exists()] == []


_FILE = re.compile(r"\b[A-Za-z_0-9]+\.(?:py|c|h|S)\b")
_GENERATED = {"_constants.py"}


@pytest.mark.parametrize(
    "path", [p for p in project_files() if p.name == "README.md"], ids=str
)
def test_readmes_name_files_that_exist(path: Path) -> None:
    names = {file.name for file in project_files()} | _GENERATED
    named = set(_FILE.findall((TOP / path).read_text()))
    assert sorted(named - names) == []


def readme(room: Path) -> Path:
    return TOP / room / "README.md"


@pytest.mark.parametrize("path", files_with_suffix(".md"), ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target, anchor in _LINK.findall((TOP / path).read_text()):
        if "://" in target:
            continue
        aim = (TOP / path).parent / target
        if not aim.exists():
            broken.append(target)
        elif anchor and anchor[1:] not in anchors(aim):
            broken.append(target + anchor)
    assert not broken


def anchors(path: Path) -> set[str]:
    """A Markdown file's headings as the names that links to them use."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(path.read_text())
    }


def test_promises_name_files_that_exist() -> None:
    text = (TOP / "SPECIFICATION.md").read_text()
    named = re.findall(r"`((?:tests|bench|tools|demo)/[\w/.\-]+)", text)
    assert named
    assert not [name for name in named if not (TOP / name).exists()]


def test_a_promise_has_a_number_of_its_own() -> None:
    text = (TOP / "SPECIFICATION.md").read_text()
    numbers = re.findall(r"^(\d+)\. ", text, re.MULTILINE)
    assert numbers
    assert sorted(numbers) == sorted(set(numbers))
