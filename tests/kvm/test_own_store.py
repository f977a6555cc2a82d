# SPDX-License-Identifier: GPL-2.0-or-later
"""The xenstore of a guest that has nothing beside it, and what comes of it:
kernels that want one start, and a guest can be asked to power off."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.guests.build import guest_path
from tests.kvm.xenner import Xenner
from tests.support.evtchnd import TOP, open_daemon
from tests.support.qmp import qmp

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("guests_built")]

_GRUB = TOP / "build/xen-utils/usr/lib/grub-xen/grub-x86_64-xen.bin"
_STORE = guest_path("store", "high")


@contextmanager
def started(
    command: list[str], until: bytes
) -> Iterator[subprocess.Popen[bytes]]:
    """A guest whose console has come to some text."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            assert process.stdout is not None
            said = b""
            while until not in said:
                more = process.stdout.read(4096)
                assert more, said[-2000:]
                said += more
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _rest(process: subprocess.Popen[bytes]) -> str:
    out, err = process.communicate(timeout=limit_s(20))
    return (out + err).decode(errors="replace")


@pytest.mark.environments("host")
def test_grub_comes_to_its_prompt(xenner: Xenner) -> None:
    """It asks xenstore for disks before it says anything."""
    if not _GRUB.exists():
        pytest.skip("packages: grub-xen-host is not unpacked")
    with started(xenner.command(_GRUB, "-m", "128"), b"grub> ") as process:
        # Nobody in GRUB listens, so it is not waited for.
        process.terminate()
        said = _rest(process)
        assert process.returncode == 0, said


def test_a_guest_that_listens_is_asked(xenner: Xenner) -> None:
    command = xenner.command(_STORE, "-append", "listen", "-m", "32")
    with started(command, b"listening") as process:
        process.send_signal(signal.SIGTERM)
        said = _rest(process)
        assert process.returncode == 0, said
        assert "PASS asked" in said
        assert "verdict: PASS" in said


@pytest.mark.environments("host")
def test_the_monitor_asks_as_well(xenner: Xenner, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    command = xenner.command(
        *(_STORE, "-append", "listen", "-m", "32"),
        *("-monitor", f"unix:{path}"),
    )
    with started(command, b"listening") as process, qmp(path) as ask:
        assert ask("query-balloon")["return"]["actual"] == 32 << 20
        ask("system_powerdown")
        said = _rest(process)
        assert process.returncode == 0, said
        assert "PASS asked" in said


def test_one_that_does_not_hear_is_ended_by_the_second(xenner: Xenner) -> None:
    """It watches, so it is asked; then it spins with events masked."""
    command = xenner.command(_STORE, "-append", "deaf", "-m", "32", "-d", "all")
    with started(command, b"verdict:") as process:
        assert process.stderr is not None
        process.send_signal(signal.SIGTERM)
        for line in process.stderr:
            if b"asking the guest to power off" in line:
                break
        process.send_signal(signal.SIGTERM)
        _rest(process)
        assert process.returncode == 0


@pytest.mark.environments("host")
def test_one_that_does_not_hear_is_ended(xenner: Xenner) -> None:
    """After a while, and nobody has to come back for it."""
    command = xenner.command(_STORE, "-append", "deaf", "-m", "32")
    with started(command, b"verdict:") as process:
        process.send_signal(signal.SIGTERM)
        said = _rest(process)
        assert process.returncode == 0, said
        assert "it has not powered off: ended" in said


@pytest.mark.environments("host")
def test_each_start_finds_a_new_one(xenner: Xenner) -> None:
    command = xenner.command(_STORE, "-append", "again", "-m", "32")
    with started(command, b"verdict:") as process:
        assert process.stdout is not None
        said = b""
        while said.count(b"verdict: PASS") < 2:
            said += process.stdout.read(4096)
        assert b"FAIL" not in said
        process.terminate()
        _rest(process)


@pytest.mark.environments("host")
def test_its_ring_may_be_rung_through_evtchnd(
    xenner: Xenner, tmp_path: Path
) -> None:
    """Event channels to the outside, and nobody there who has a store."""
    with open_daemon(tmp_path) as evtchnd:
        outcome = xenner.run(
            _STORE,
            *("-m", "32", "-no-reboot", "-evtchnd", str(evtchnd.path)),
        )
    assert outcome.status == 0, outcome.report()
    assert outcome.lines[-1].startswith("verdict: PASS"), outcome.report()
