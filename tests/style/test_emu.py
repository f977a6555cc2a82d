# SPDX-License-Identifier: GPL-2.0-or-later
"""What emu's sources promise of themselves."""

import graphlib
import re
import subprocess

import pytest

from tests.style.tree import TOP

# Sizes of words, tables and strides of 64-bit guests, as numbers.
_WIDTH = re.compile(
    r"(?<![-\w])51[12]\b(?! \+)|[/%] 64\b|\b9 \*|[<>]{2} (?:39|47|48)\b"
    r"|\blevel (?:<|==|<=|=) 4\b|rex &|(?<!bytes) \* 8\b|, 8\)|RING3_[CS]S64"
)


def test_emu_writes_one_object() -> None:
    """Beside vCPUs' blocks: so nothing is forgotten that belongs to a guest."""
    emu = TOP / "build/meson/emu/emu64"
    if not emu.exists():
        pytest.skip("build: tools/setup was not run: no emu64")
    options = "--wide --section-headers --symbols".split()
    text = subprocess.run(
        ["readelf", *options, emu], check=True, capture_output=True, text=True
    ).stdout
    sections = re.findall(
        r"^ *\[ *(\d+)\] (\S+) +\w+ +\w+ \w+ (\w+) \w+ +(\w+) ", text, re.M
    )
    symbols = re.findall(
        r"^ *\d+: \w+ +(\w+) OBJECT +\w+ +\w+ +(\d+) (\S+)$", text, re.M
    )
    writable = {
        number: int(size, 16)
        for number, name, size, flags in sections
        if "W" in flags and name != ".data.rel.ro"
    }
    written = {
        name: int(size, 0)
        for size, number, name in symbols
        if number in writable
    }
    assert written.keys() == {"emu_machine"}
    assert sum(writable.values()) == written["emu_machine"]


def test_emu_has_widths_in_one_header() -> None:
    """But for the files that its README says are of one width."""
    readme = (TOP / "emu/README.md").read_text()
    (paragraph,) = re.findall(r"^Beside width\.h .*?\n\n", readme, re.M | re.S)
    of_one_width = set(re.findall(r"\w+\.[ch]", paragraph))
    sources = {path.name: path for path in (TOP / "emu").glob("*.[ch]")}
    assert of_one_width <= sources.keys()
    found = [
        f"emu/{name}:{number}: {line.strip()}"
        for name, path in sorted(sources.items())
        if name not in of_one_width
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _WIDTH.search(line)
    ]
    assert not found, "\n".join(found)


def test_emu_has_no_circles() -> None:
    """Of files that call each other: the assembly stands apart."""
    archive = TOP / "build/meson/emu/libemu64-c.a"
    if not archive.exists():
        pytest.skip("build: tools/setup was not run: no emu64")
    text = subprocess.run(
        ["nm", archive], check=True, capture_output=True, text=True
    ).stdout
    members = dict(re.findall(r"^.*?(\w+\.c)\.o:\n((?:.+\n)*)", text, re.M))
    definer = {
        symbol: member
        for member, symbols in members.items()
        for symbol in re.findall(r" [A-TV-Z] (\S+)", symbols)
    }
    calls = {
        member: {
            definer[symbol]
            for symbol in re.findall(r" U (\S+)", symbols)
            if symbol in definer
        }
        for member, symbols in members.items()
    }
    assert calls["traps.c"]
    graphlib.TopologicalSorter(calls).prepare()
