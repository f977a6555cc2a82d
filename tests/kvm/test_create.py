# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerctl create, with guests that end by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guests.build import guest_path
from tests.kvm.ctl import Ctl
from tests.kvm.supervisor import open_xennerd
from tests.support.services import open_host

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.environments("host"),
    pytest.mark.usefixtures("guests_built"),
]

_ENDING = guest_path("ending", "high")


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[Ctl]:
    with (
        open_host(tmp_path, _ENDING, tmp_path / "none") as host,
        open_xennerd(tmp_path),
    ):
        yield Ctl(host)


def settings(end: str, *more: str) -> list[str]:
    """A guest without a file, of a name that is no unit's as it is."""
    return [
        *("name='t~x'", f"kernel='{_ENDING}'", "memory=16"),
        *(f"extra='end={end}'", *more),
    ]


def test_short_lives(ctl: Ctl) -> None:
    # Who is at the console sees all of it.
    assert "verdict: PASS" in ctl("create", "-c", *settings("poweroff"))
    assert not ctl.has_guests()
    # What has run has been created, however soon it ends.
    ctl("create", "/dev/null", *settings("poweroff"))
    ctl("create", "-F", *settings("poweroff"))
    assert not ctl.has_guests()


def test_staying_until_the_end(ctl: Ctl) -> None:
    """A restart is none, and one that stays dead is one."""
    words = settings("crash", "on_crash='preserve'")
    ctl("create", "-F", *words)
    assert "---sc-" in ctl("list", "t~x")
    ctl("destroy", "t~x")
    ctl("create", "-F", *settings("reboot"))
    assert not ctl.has_guests()
    log = (ctl.host.directory / "log/guest-t~x.log").read_text()
    assert log.count("has ended: reboot") == 5
