# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain file's on_... keys make of a guest that ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.guests.build import guest_path
from tests.kvm.ctl import Ctl
from tests.support.evtchnd import TOP
from tests.support.services import open_host
from xennerd.domain.records import Record, list_records
from xennerd.qmp.client import QmpClient
from xennerd.vm import stopping

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.environments("host"),
    pytest.mark.usefixtures("guests_built"),
]

_ENDING = guest_path("ending", "high")
_DOMID = 7
_HANDLE = "12345678-9abc-4def-8123-456789abcdef"


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[Ctl]:
    with open_host(tmp_path, _ENDING, tmp_path / "none") as host:
        yield Ctl(host)


def command(
    ctl: Ctl, end: str, keys: str, *, domid: int = _DOMID
) -> list[str | Path]:
    """The program of a unit, for a guest that ends at once."""
    host = ctl.host
    file = host.directory / "web.cfg"
    file.write_text(
        f"name='web'\nkernel='{_ENDING}'\nmemory=16\nextra='end={end}'\n{keys}"
    )
    return [
        *(sys.executable, "-m", "xennerd.domain.start", "--domid", str(domid)),
        *("--runtime-dir", host.directory, "--evtchnd", host.evtchnd.path),
        *("--xenstore", host.socket, "--dump-dir", host.directory / "dump"),
        file,
    ]


def start(
    ctl: Ctl, end: str, keys: str, *, domid: int = _DOMID
) -> subprocess.CompletedProcess[str]:
    """Until it has ended for good."""
    return subprocess.run(
        command(ctl, end, keys, domid=domid),
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(60),
    )


def records(ctl: Ctl) -> list[Record]:
    return list_records(ctl.host.directory)


def left(ctl: Ctl) -> list[str]:
    """What of domains stands in the runtime directory."""
    return sorted(
        name
        for name in os.listdir(ctl.host.directory)
        if name.startswith(("vmcore.", "domain.", "monitor.", "console."))
    )


def test_a_disk_that_nobody_serves(ctl: Ctl, tmp_path: Path) -> None:
    """The start says so, and leaves nothing behind."""
    keys = f"disk=['{tmp_path}/root,raw,xvda,w']\nwait_devices=1"
    done = start(ctl, "idle", keys)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "xenner-start: xvda is not connected after 1 s: nobody serves it: is "
        "blkbackd running?"
    )
    assert left(ctl) == []
    assert f"domain/{_DOMID}" not in ctl.host.run("xenstore-ls", "-f", "/")


def test_preserved(ctl: Ctl) -> None:
    done = start(ctl, "crash", "on_crash='preserve'")
    assert done.returncode == 1
    assert "has ended: crash, which means preserve" in done.stderr
    assert left(ctl) == ["domain.7", "vmcore.7"]
    heading, row = ctl("list").splitlines()[0], ctl("list", "web").split()[-6:]
    assert heading.startswith("Name")
    assert row[:5] == ["web", "7", "16", "1", "---sc-"]
    assert "verdict: PASS" in ctl("console", "web")

    again = start(ctl, "poweroff", "")
    assert again.returncode == 1
    assert "domain 7 has ended and stays" in again.stderr
    assert "xennerctl destroy 7" in again.stderr
    assert left(ctl) == ["domain.7", "vmcore.7"]

    core = ctl.host.directory / "copy"
    ctl("dump-core", "web", str(core))
    assert core.read_bytes() == (ctl.host.directory / "vmcore.7").read_bytes()
    for words in (("pause", "web"), ("mem-set", "web", "8")):
        refused = ctl.run(*words)
        assert refused.returncode == 1
        assert refused.stderr == "xennerctl: web has ended: crash\n"
    ctl("rename", "web", "late")
    ctl("destroy", "late")
    assert left(ctl) == []
    assert start(ctl, "poweroff", "").returncode == 0
    assert left(ctl) == []


def test_who_is_at_the_console_of_one_that_ends_at_once(ctl: Ctl) -> None:
    words = [*command(ctl, "poweroff", ""), "--paused"]
    with subprocess.Popen(words, cwd=TOP, stderr=subprocess.PIPE) as guest:
        try:
            assert guest.stderr is not None
            assert any(b"char device" in line for line in guest.stderr)
            path = ctl.host.directory / f"console.{_DOMID}"
            terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
            # While it is at its start of day its monitor is there already.
            deadline = time.monotonic() + limit_s(30)
            while ctl.run("unpause", str(_DOMID)).returncode:
                assert time.monotonic() < deadline
            said = b""
            with suppress(OSError):
                while data := os.read(terminal, 100):
                    said += data
            os.close(terminal)
            guest.communicate(timeout=limit_s(20))
        finally:
            guest.kill()
    assert b"verdict: PASS" in said


def test_renamed_and_started_again_until_it_is_too_often(ctl: Ctl) -> None:
    keys = f"on_crash='rename-restart'\nuuid='{_HANDLE}'"
    done = start(ctl, "crash", keys)
    assert done.returncode == 1
    assert done.stderr.count("has ended: crash") == 5
    assert done.stderr.count("is started again") == 4
    assert done.stderr.count("ends too often, is left alone") == 1
    found = records(ctl)
    assert [record.end for record in found] == ["crash"] * 5
    # The last one has its own name and number still.
    assert {record.domid for record in found} == {1, 2, 3, 4, _DOMID}
    assert found[-1].name == "web"
    assert all(record.name.startswith("web-20") for record in found[:-1])
    # As xl has it, each dead one is another domain.
    assert len({record.handle for record in found}) == 5
    assert str(found[-1].handle) == _HANDLE
    for record in found:
        ctl("destroy", str(record.domid))
    assert left(ctl) == []


@pytest.mark.parametrize(
    ("end", "key"), [("reboot", "on_reboot"), ("poweroff", "on_poweroff")]
)
def test_started_again_until_it_is_too_often(
    ctl: Ctl, end: str, key: str
) -> None:
    done = start(ctl, end, f"{key}='restart'")
    assert done.returncode == 1
    assert done.stderr.count(f"has ended: {end}, which means restart") == 5
    assert done.stderr.count("is started again") == 4
    assert left(ctl) == []


def test_a_core_and_again(ctl: Ctl) -> None:
    done = start(ctl, "crash", "on_crash='coredump-restart'")
    assert done.returncode == 1
    assert left(ctl) == []
    # Those of one second have one name: the first has it.
    cores = list((ctl.host.directory / "dump").iterdir())
    assert cores
    assert len(cores) == done.stderr.count("core in ") - done.stderr.count(
        "no core in "
    )
    for core in cores:
        assert core.read_bytes()[:4] == b"\x7fELF"
        # What the guest never had takes no room.
        status = core.stat()
        assert status.st_blocks * 512 < status.st_size


@contextmanager
def idle(ctl: Ctl, keys: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that never ends by itself."""
    with subprocess.Popen(
        command(ctl, "idle", keys),
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            assert any(b"is running" in line for line in process.stderr)
            yield process
            # This guest never listens: it is asked, and ended by the next.
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=limit_s(20))
        finally:
            process.kill()
    assert process.returncode == 0
    assert left(ctl) == []


def test_who_is_told_to_end_does_not_start_again(ctl: Ctl) -> None:
    with idle(ctl, "on_poweroff='restart'"):
        assert json.loads(ctl("list", "--json", "web"))[0]["end"] == ""


def _reset(ctl: Ctl, *, starts: int) -> None:
    """It starts anew; until that is its start of that number, and answers."""
    monitor = ctl.host.directory / f"monitor.{_DOMID}"
    with QmpClient(monitor, limit_s=limit_s(60)) as client:
        client.execute("system_reset")
    deadline = time.monotonic() + limit_s(60)
    while [len(record.starts_s) for record in records(ctl)] != [starts]:
        assert time.monotonic() < deadline
    while ctl.run("pause", str(_DOMID)).returncode:
        assert time.monotonic() < deadline
    ctl("unpause", str(_DOMID))


def test_the_file_at_the_time_of_create_counts(ctl: Ctl) -> None:
    """Whatever becomes of it, and whatever makes the domain another one, until
    it is updated."""
    file = ctl.host.directory / "web.cfg"
    with idle(ctl, "") as process:
        file.unlink()
        ctl("rename", "web", "late")
        _reset(ctl, starts=2)
        file.write_text("name='early'\nkernel='/none'\n")
        ctl("rename", "late", "shop")
        (long,) = json.loads(ctl("list", "-l", "shop"))
        assert long["config"]["b_info"]["kernel"] == str(_ENDING)
        _reset(ctl, starts=3)
        assert process.poll() is None
        file.write_text(f"name='shop'\nkernel='{_ENDING}'\nextra='end=idle'")
        for nr, memory in enumerate((17, 18), start=4):
            # The same file, with something else in it each time.
            with file.open("a") as text:
                text.write(f"\nmemory={memory}")
            ctl("config-update", "shop", str(file))
            file.write_text(file.read_text().rpartition("\n")[0])
            _reset(ctl, starts=nr)
            assert records(ctl)[0].memory_mib == memory


def test_a_uuid_is_one_domain_s(ctl: Ctl) -> None:
    with idle(ctl, f"uuid='{_HANDLE}'"):
        keys = f"uuid='{_HANDLE.upper()}'\nname='other'"
        refused = start(ctl, "poweroff", keys, domid=8)
        assert refused.returncode == 1
        assert refused.stderr == (
            f"xenner-start: uuid {_HANDLE} is that of web, domain 7 (give this "
            "one another, or none: it has one of its own then)\n"
        )


def test_one_that_does_not_hear(ctl: Ctl) -> None:
    """It is asked, and ended: nothing of it is left, in xenstore neither."""
    words = [str(word) for word in command(ctl, "idle", "cap=50")[3:]]
    script = (
        "import sys; from xennerd.vm import stopping; "
        "stopping.HEARD_LIMIT_S = 1; "
        "from xennerd.domain.start import main; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            lines = []
            while "is running" not in (line := process.stderr.readline()):
                assert line
                lines.append(line)
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(limit_s(20)) == 0
        finally:
            process.kill()
    assert "web: is asked to shut down by SIGTERM\n" in said
    assert "it does not hear that it is to power off: ended\n" in said
    # Run by a person and by no unit.
    assert any("warning: cap limits nothing here" in line for line in lines)
    assert left(ctl) == []
    assert f"domain/{_DOMID}" not in ctl.host.run("xenstore-ls", "-f", "/")


def test_a_guest_is_ended_before_its_unit_is_killed() -> None:
    unit = (TOP / "units/xenner@.service").read_text()
    (limit,) = re.findall(r"^TimeoutStopSec=([0-9]+)$", unit, re.MULTILINE)
    assert int(limit) - 10 >= stopping.STOP_LIMIT_S


def test_a_name_is_one_domain_s(ctl: Ctl) -> None:
    with idle(ctl, ""):
        refused = start(ctl, "poweroff", "", domid=8)
        assert refused.returncode == 1
        assert refused.stderr == (
            'xenner-start: Domain with name "web" already exists. '
            "(as domain 7)\n"
        )
