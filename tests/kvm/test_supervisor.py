# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd by hand: it starts all that a guest needs, and whatever is killed
comes back."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.environments.rules import limit_s
from tests.guests.build import guest_path
from tests.kvm.supervisor import Xennerd, open_xennerd
from tests.support.evtchnd import LIBS, TOP, library
from tests.support.xenstored import UNPACKED, program
from xenner.listening import listener_of
from xenner.xenstore import Xenstore
from xennerd.domain.records import change_record
from xennerd.qmp.client import QmpRefusedError

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.environments("host"),
    pytest.mark.usefixtures("guests_built"),
]

_IDLE = guest_path("ending", "high")
_DAEMONS = ("evtchnd", "xenstored", "blkbackd", "netbackd")


@pytest.fixture
def xennerd(tmp_path: Path) -> Iterator[Xennerd]:
    library("xenevtchn")
    with open_xennerd(tmp_path) as xennerd:
        try:
            yield xennerd
        finally:
            for domain in living(xennerd):
                # They are not to be started again.
                change_record(
                    tmp_path,
                    domain["domid"],
                    lambda record: replace(record, is_unwanted=True),
                )
                with suppress(ProcessLookupError):
                    kill(domain["pid"])
            xennerd.wait_for(lambda: not living(xennerd))


def domains(xennerd: Xennerd) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = xennerd.ask("query-domains")
    return found


def living(xennerd: Xennerd) -> list[dict[str, Any]]:
    return [d for d in domains(xennerd) if d["state"] == "running"]


def create(xennerd: Xennerd, keys: str = "") -> dict[str, Any]:
    file = xennerd.directory / "web.cfg"
    file.write_text(
        f"name='web'\nkernel='{_IDLE}'\nmemory=16\nextra='end=idle'\n{keys}"
    )
    found: dict[str, Any] = xennerd.ask("domain-create", file=str(file))
    return found


def pids(xennerd: Xennerd) -> dict[str, int]:
    return {d["name"]: d["pid"] for d in xennerd.ask("query-daemons")}


def wait_restarted(xennerd: Xennerd, name: str, before: int) -> None:
    xennerd.wait_for(lambda: pids(xennerd)[name] not in (0, before))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_whatever_is_killed_comes_back(xennerd: Xennerd) -> None:
    first = pids(xennerd)
    assert tuple(first) == _DAEMONS
    assert all(first.values())
    before = create(xennerd, "on_crash='restart'")
    assert (before["name"], before["state"]) == ("web", "running")
    # It is started from what stood there.
    (xennerd.directory / "web.cfg").unlink()

    log = xennerd.directory / "log/guest-web.log"
    xennerd.wait_for(lambda: log.read_text().count("is running") == 1)
    kill(before["pid"])
    xennerd.wait_for(
        lambda: [d["pid"] for d in living(xennerd)] not in ([], [before["pid"]])
    )
    xennerd.wait_for(lambda: log.read_text().count("is running") == 2)
    (after,) = domains(xennerd)
    for same in ("domid", "uuid", "name", "file"):
        assert after[same] == before[same]
    assert len(after["starts"]) == 2

    for name in _DAEMONS:
        before_it = pids(xennerd)
        kill(before_it[name])
        # The backends follow a store that has gone.
        lost = _DAEMONS[1:] if name == "xenstored" else (name,)
        for each in lost:
            wait_restarted(xennerd, each, before_it[each])
    assert [d["pid"] for d in living(xennerd)] == [after["pid"]]

    second = pids(xennerd)
    xennerd.kill()
    xennerd.start()
    assert pids(xennerd) == second
    assert [d["pid"] for d in living(xennerd)] == [after["pid"]]
    # It watches what it has found as well as what it starts.
    kill(after["pid"])
    xennerd.wait_for(
        lambda: [d["pid"] for d in living(xennerd)] not in ([], [after["pid"]])
    )


@pytest.mark.parametrize(
    ("action", "names"),
    [
        ("destroy", set()),
        ("preserve", {"domain.1", "vmcore.1"}),
        ("coredump-destroy", set()),
    ],
)
def test_a_killed_one_that_is_not_started_again(
    xennerd: Xennerd, action: str, names: set[str]
) -> None:
    domain = create(xennerd, f"on_crash='{action}'")
    assert domain["domid"] == 1
    kill(domain["pid"])
    xennerd.wait_for(lambda: not living(xennerd))

    def left() -> set[str]:
        return {
            path.name
            for path in xennerd.directory.iterdir()
            if path.name.endswith(".1")
        }

    xennerd.wait_for(lambda: left() == names)
    with Xenstore(xennerd.directory / "xenstore") as store:
        xennerd.wait_for(lambda: "1" not in store.directory("/local/domain"))
    ends = [(d["state"], d["end"]) for d in domains(xennerd)]
    assert ends == ([("ended", "killed")] if names else [])
    dump = xennerd.directory / "dump"
    assert dump.exists() == (action == "coredump-destroy")
    if dump.exists():
        (core,) = dump.iterdir()
        assert core.read_bytes()[:4] == b"\x7fELF"


def test_who_is_told_twice_ends_its_daemons(tmp_path: Path) -> None:
    """Of a terminal that is closed all in it hear by two signals."""
    library("xenevtchn")
    xennerd = Xennerd(tmp_path)
    xennerd.start()
    process = xennerd.process
    assert process is not None
    with ExitStack() as stack:
        running = []
        for pid in pids(xennerd).values():
            running.append(os.pidfd_open(pid))
            stack.callback(os.close, running[-1])
        *_, first = running
        process.send_signal(signal.SIGHUP)
        # It has begun: the last that was started has ended.
        assert select.select([first], [], [], limit_s(30))[0]
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(limit_s(60)) == 0, xennerd.log()
        for pidfd in running:
            assert select.select([pidfd], [], [], 0)[0]


def test_guests_and_their_daemons_outlive_it(xennerd: Xennerd) -> None:
    create(xennerd)
    running = pids(xennerd)
    xennerd.stop()
    assert "guests run on" in xennerd.log()
    xennerd.start()
    assert pids(xennerd) == running


def test_what_it_refuses(xennerd: Xennerd) -> None:
    create(xennerd)
    file = xennerd.directory / "bad.cfg"
    file.write_text("name='bad'\nkernel='/none'\n")
    for arguments, complaint in (
        ({"file": str(xennerd.directory / "web.cfg")}, "already exists"),
        ({"file": "web.cfg"}, "path from the root"),
        ({"file": "/none.cfg"}, "/none.cfg: No such file"),
        ({"file": str(file)}, "/none: cannot read the kernel"),
        ({"file": str(file), "settings": "kernel="}, "a value"),
        ({"file": str(file), "domid": 0x7FF0}, "between 1 and"),
    ):
        with pytest.raises(QmpRefusedError, match=complaint):
            xennerd.ask("domain-create", **arguments)
    assert [d["name"] for d in domains(xennerd)] == ["web"]
    again = run(xennerd.directory)
    assert again.returncode == 1
    assert "is an xennerd running?" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def run(directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "xennerd.supervisor"),
            *("--runtime-dir", directory, "--xenstore", directory / "xenstore"),
        ],
        cwd=TOP,
        env={**os.environ, "LD_LIBRARY_PATH": str(LIBS), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(60),
    )


def test_what_does_not_start_is_named_and_nothing_stays(tmp_path: Path) -> None:
    library("xenevtchn")
    # The store finds no place to listen.
    (tmp_path / "xenstore").mkdir()
    done = run(tmp_path)
    assert done.returncode == 1
    assert "xennerd: xenstored does not start: status 1" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"xenstore"}


def test_a_real_xenstored_by_one_line_of_configuration(tmp_path: Path) -> None:
    """A guest lives with it, and it ends as ours would."""
    settings = tmp_path / "xenner.toml"
    settings.write_text(f"[store]\nprogram = '{program('xenstored')}'\n")
    xennerd = Xennerd(
        tmp_path,
        xenstore="socket",
        environment={
            "LD_LIBRARY_PATH": f"{LIBS}:{UNPACKED / 'x86_64-linux-gnu'}",
            "XENNER_CONFIG": str(settings),
        },
    )
    xennerd.start()
    store = listener_of(tmp_path / "socket", socket.SOCK_STREAM)
    assert store is not None
    assert Path(f"/proc/{store}/comm").read_text() == "xenstored\n"
    domain = create(xennerd)
    domid = str(domain["domid"])
    with Xenstore(tmp_path / "socket") as client:
        assert client.read(f"/local/domain/{domid}/name") == "web"
        kill(domain["pid"])
        xennerd.wait_for(lambda: domid not in client.directory("/local/domain"))
    pidfd = os.pidfd_open(store)
    try:
        xennerd.kill()
        # The next one finds it, and ends it.
        xennerd.start()
        xennerd.stop()
        assert select.select([pidfd], [], [], limit_s(30))[0]
    finally:
        os.close(pidfd)


def test_settings_that_are_wrong_are_refused(tmp_path: Path) -> None:
    settings = tmp_path / "xenner.toml"
    settings.write_text("[log]\nlevel = 'loud'\n")
    done = run(tmp_path / "run", XENNER_CONFIG=str(settings))
    assert done.returncode == 2
    assert f"{settings}:2: log.level: one of debug, info" in done.stderr
    assert list(tmp_path.iterdir()) == [settings]
