# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-in libraries export what Debian's do, under the same versions, and
fail as those do on a Linux without Xen's devices."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.evtchnd import TOP, library

_DEBIAN = Path("/usr/lib/x86_64-linux-gnu")
_THIS = "tests.component.evtchnd.test_symbols"
_NAMES = ("xencall", "xenevtchn", "xenforeignmemory", "xengnttab")
# libs/evtchn/xsd.c, rlimit.c and libs/gnttab/batch.h say why.
_OURS_ALONE = {
    "xenevtchn": {
        f"{name}@GLIBC_2.2.5"
        for name in ("open", "open64", "setrlimit", "setrlimit64")
    },
    "xengnttab": {
        f"xenner_gnttab_{name}_batch@@XENNER" for name in ("map", "unmap")
    },
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


# Those that need no device with Xen's libraries either, or no evtchnd with
# ours: what both say when it is not there.
_CALLS = {
    "xencall": ["xencall_open", "xencall_open 4", "xencall_close"],
    "xenevtchn": [
        "xenevtchn_open",
        "xenevtchn_open 2",
        "xenevtchn_fdopen 0 1",
        "xenevtchn_close",
    ],
    "xenforeignmemory": ["xenforeignmemory_close"],
    "xengnttab": ["xengntshr_open", "xengntshr_open 4", "xengntshr_close"],
}


def _say(path: str, calls: list[str]) -> None:
    """What each call returns, and errno, to standard output."""
    loaded = ctypes.CDLL(path, use_errno=True)
    for call in calls:
        name, *numbers = call.split()
        function = getattr(loaded, name)
        function.restype = ctypes.c_void_p
        ctypes.set_errno(0)
        got = function(None, *map(int, numbers or ["0"]))
        print(call, got, ctypes.get_errno())


@pytest.mark.parametrize("name", _NAMES)
def test_they_fail_as_xens(name: str, tmp_path: Path) -> None:
    stock = _DEBIAN / f"lib{name}.so.1"
    if not stock.exists():
        pytest.skip(f"packages: lib{name}1 is not installed")
    said = [
        subprocess.run(
            [sys.executable, "-m", _THIS, path, *_CALLS[name]],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "XENNER_RUNTIME_DIR": str(tmp_path)},
            cwd=TOP,
        ).stdout
        for path in (stock, library(name))
    ]
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == len(_CALLS[name])


if __name__ == "__main__":
    _say(sys.argv[1], sys.argv[2:])
