# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives the lab takes its packages from."""

import pytest

from lab import archive


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
    main, updates, fixes = archive.sources()
    assert main.split()[2:] == [mirror, "bookworm", "main"]
    assert updates.split()[2:] == [mirror, "bookworm-updates", "main"]
    assert fixes.split()[2:] == [security, "bookworm-security", "main"]
    (backports,) = archive.sources(backports=True)
    assert backports.split()[2:] == [mirror, "bookworm-backports", "main"]
