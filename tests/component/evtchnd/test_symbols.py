# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-in libraries export what Debian's do, under the same versions."""

import subprocess
from pathlib import Path

import pytest

from tests.component.evtchnd.daemon import library

_DEBIAN = Path("/usr/lib/x86_64-linux-gnu")
_NAMES = ("xencall", "xenevtchn", "xenforeignmemory", "xengnttab")
# libs/evtchn/xsd.c and rlimit.c say why.
_OURS_ALONE = {
    "xenevtchn": {
        f"{name}@GLIBC_2.2.5"
        for name in ("open", "open64", "setrlimit", "setrlimit64")
    }
}


def _exported(path: Path) -> set[str]:
    """`symbol@@VERSION`; the version nodes themselves are no symbols."""
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", "--with-symbol-versions", path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {name for _address, kind, name in rows if kind != "A"}


def _dynamic(path: Path, tag: str) -> set[str]:
    listing = subprocess.run(
        ["objdump", "-p", path], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[1] for row in rows if len(row) == 2 and row[0] == tag}


@pytest.mark.parametrize("name", _NAMES)
def test_symbols_and_versions(name: str) -> None:
    stock = _DEBIAN / f"lib{name}.so.1"
    if not stock.exists():
        pytest.skip(f"packages: lib{name}1 is not installed")
    wanted = _exported(stock) | _OURS_ALONE.get(name, set())
    assert _exported(library(name)) == wanted


@pytest.mark.parametrize("name", _NAMES)
def test_names_and_needs(name: str) -> None:
    path = library(name)
    assert _dynamic(path, "SONAME") == {f"lib{name}.so.1"}
    assert _dynamic(path, "NEEDED") <= {"libc.so.6"}
