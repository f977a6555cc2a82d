# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd with Xen's own libraries, as it would run on Xen."""

import subprocess
from pathlib import Path

import pytest

from blkbackd import _engine
from tests.support.blk.rig import Rig
from xenner import _xenstore
from xenner.xenbus import XenbusState

_DEBIAN = Path("/usr/lib/x86_64-linux-gnu")
_LIBRARIES = {
    _engine.__file__: ("libxenevtchn.so.1", "libxengnttab.so.1"),
    _xenstore.__file__: ("libxenstore.so.4",),
}


def _symbols(path: Path, *options: str) -> set[str]:
    """With their versions; weak ones that need not be there left out."""
    listing = subprocess.run(
        ["nm", "-D", "--with-symbol-versions", *options, path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[-1].replace("@@", "@") for row in rows if row[-2] != "w"}


@pytest.mark.parametrize("extension", _LIBRARIES)
def test_what_it_needs_is_in_them(extension: str) -> None:
    libraries = [_DEBIAN / name for name in _LIBRARIES[extension]]
    there = set[str]().union(
        *(_symbols(library, "--defined-only") for library in libraries)
    )
    needed = {
        name
        for name in _symbols(Path(extension), "--undefined-only")
        if name.startswith(("xen", "xs_"))
    }
    assert needed
    assert needed <= there


def test_without_xen_they_say_so(
    rig: Rig, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it works with them up to Xen's devices, which are not here: the
    disk is refused, and blkbackd goes on."""
    rig.kill_backend()
    environment = {**rig.environment(), "LD_LIBRARY_PATH": str(_DEBIAN)}
    monkeypatch.setattr(rig, "environment", lambda: environment)
    rig.start_backend()
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    frontend.open_ring()
    frontend.publish()
    frontend.wait_backend(XenbusState.CLOSING)
    assert "cannot have event channels: No such file" in rig.log()
    assert rig.status("--json") == '{"backend/vbd/7/51712": {}}\n'
