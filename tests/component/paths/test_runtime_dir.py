# SPDX-License-Identifier: GPL-2.0-or-later
"""All programs look for domains in one and the same place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runtimedirs import ATTACKER, without_run

TOP = Path(__file__).resolve().parents[3]
LOOKING = Path(__file__).with_name("looking.py")
SAY = 'echo "looks at $XENNER_RUNTIME_DIR"'
ALONE = "xenner without devices"
PROGRAMS = {
    "blkbackd": ("blkbackd", "--status"),
    "evtchnd": ("evtchnd",),
    "netbackd": ("netbackd", "--status"),
    "xenner": ("xennerd.standalone", "-kernel", "{0}/k", "-hda", "{0}/web.cfg"),
    "xenner-cleanup": ("xennerd.cleanup", "--xenstore", "{0}/none"),
    "xenner-start": ("xennerd.domain.start", "{0}/web.cfg"),
    "xenner-stats": ("xennerd.stats",),
    "xenner-xenstored": (
        *("xenstored", "--socket", "{0}/socket"),
        *("--instead", "sh {0}/say"),
    ),
    "xennerctl": ("xennerd.ctl", "list"),
    "xennerd": ("xennerd.supervisor",),
    ALONE: ("xennerd.standalone", "-kernel", "{0}/k"),
}
# Its first look wants a kernel and KVM.
LOOKING_AT_ONCE = sorted(PROGRAMS.keys() - {ALONE})
# It has a directory of its own elsewhere then.
REFUSING = sorted(PROGRAMS.keys() - {"xenner"})


def _run(name: str, directory: Path, named: str, state: str) -> tuple[str, str]:
    """What it has looked at first, and what it says."""
    (directory / "web.cfg").write_text("name='web'\nmemory=64\nkernel='k'\n")
    (directory / "k").touch()
    (directory / "say").write_text(SAY)
    environment = {
        **os.environ,
        "XENNER_RUNTIME_DIR": named,
        "XENSTORED_PATH": str(directory / "none"),
        "PYTHONPATH": str(TOP),
    }
    words = [word.format(directory) for word in PROGRAMS[name]]
    done = subprocess.run(
        without_run(state, [sys.executable, str(LOOKING), *words]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        cwd=directory,
    )
    for line in done.stdout.splitlines():
        if line.startswith("looks at "):
            return line.removeprefix("looks at "), done.stderr
    return "", done.stderr


@pytest.mark.parametrize("name", LOOKING_AT_ONCE)
def test_where_it_looks(name: str, tmp_path: Path) -> None:
    looked, said = _run(name, tmp_path, "/named/dir", "ours")
    assert looked.startswith("/named/dir"), said
    looked, said = _run(name, tmp_path, "", "ours")
    assert looked.startswith("/dev/shm/xenner"), said


@pytest.mark.parametrize("name", REFUSING)
def test_one_that_an_attacker_has_made(name: str, tmp_path: Path) -> None:
    looked, said = _run(name, tmp_path, "", "another's")
    assert f"/dev/shm/xenner belongs to user {ATTACKER}" in said
    assert not looked


def test_a_guest_of_its_own_goes_elsewhere_then(tmp_path: Path) -> None:
    looked, said = _run("xenner", tmp_path, "", "another's")
    assert looked == "/dev/shm", said
