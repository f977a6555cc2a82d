# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives the lab takes its packages from."""

from pathlib import Path

import pytest

from lab import archive
from lab.emulator import Qemu


@pytest.mark.parametrize(
    ("listing", "mirror", "security"),
    [
        (
            "http://deb.debian.org/debian Debian bookworm\n"
            "http://deb.debian.org/debian-security Debian "
            "bookworm-security\n",
            "http://deb.debian.org/debian",
            "http://deb.debian.org/debian-security",
        ),
        (
            "https://example.org/apt Other stable\n"
            "http://mirror.example/pub/debian/ Debian bookworm\n",
            "http://mirror.example/pub/debian/",
            "http://mirror.example/pub/debian-security",
        ),
        (
            "http://mirror.example/deb Debian bookworm\n",
            "http://mirror.example/deb",
            "http://deb.debian.org/debian-security",
        ),
        (
            "",
            "http://deb.debian.org/debian",
            "http://deb.debian.org/debian-security",
        ),
    ],
    ids=["debian", "mirror", "odd", "none"],
)
def test_sources_are_those_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, listing: str, mirror: str, security: str
) -> None:
    monkeypatch.setattr(archive, "run_quietly", lambda *_: listing)
    main, updates, fixes = archive.sources("release")
    assert main.split()[2:] == [mirror, "bookworm", "main"]
    assert updates.split()[2:] == [mirror, "bookworm-updates", "main"]
    assert fixes.split()[2:] == [security, "bookworm-security", "main"]
    (backports,) = archive.sources("backports")
    assert backports.split()[2:] == [mirror, "bookworm-backports", "main"]
    (unstable,) = archive.sources("unstable")
    assert unstable.split()[2:] == [mirror, "unstable", "main"]


def test_an_emulator_brings_its_own_loader(tmp_path: Path) -> None:
    program = str(tmp_path / "usr/bin/qemu-system-x86_64")
    firmware = ("-L", f"{tmp_path}/usr/share/qemu")
    plain = Qemu(tmp_path).command
    assert plain[:3] == (program, *firmware)
    loader = tmp_path / "usr/lib64/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.touch()
    libraries = f"{tmp_path}/usr/lib/x86_64-linux-gnu"
    words = (str(loader), "--library-path", libraries)
    assert Qemu(tmp_path).command == (*words, *plain)
