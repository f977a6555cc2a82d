# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest as an operator runs it: a file, a unit, the journal."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.support.services import INIT, POWEROFF
from tests.system.commands import output_of, run, status_of
from tests.system.guestterminal import Terminal

# One boot in the emulated machine takes as long as all of these here.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("container")]

DOMID = 361
UNIT = f"xenner@{DOMID}.service"
FILE = Path(f"/etc/xenner/{DOMID}.cfg")
SETTINGS = Path("/etc/xenner/xenner.toml")
KERNEL = Path(__file__).resolve().parents[2] / "build/debian/vmlinuz"
NOBODY = 65534
# The most that systemd-analyze may find exposed, in its tenths.
MOST_EXPOSED = 20


@pytest.fixture
def store() -> Iterator[None]:
    """The suite's xenstore, ready to be spoken to."""
    output_of("systemctl", "start", "xenstored.service")
    yield
    run("systemctl", "stop", UNIT)
    run("systemctl", "reset-failed", UNIT)
    # What the guest's unit has pulled in.
    daemons = ("xennerd", "blkbackd", "netbackd", "xenstored", "evtchnd")
    output_of("systemctl", "stop", *daemons, "evtchnd.socket")
    FILE.unlink(missing_ok=True)


def write_file(
    directory: Path,
    *,
    init: bytes = INIT,
    poweroff: bytes = POWEROFF,
    more: str = "",
) -> None:
    disk = directory / "initramfs"
    disk.write_bytes(make_initramfs(init, {"sbin/poweroff": poweroff}))
    # The unit has a /tmp of its own: what it reads lies elsewhere.
    target = Path("/var/lib") / f"xenner-test-{DOMID}"
    target.write_bytes(disk.read_bytes())
    FILE.write_text(
        f"name = 'web'\nkernel = '{KERNEL}'\nramdisk = '{target}'\n"
        "memory = 192 ; vcpus = 2\nextra = 'console=hvc0 panic=-1'\n"
        f"{more}\n"
    )


def shown(*properties: str) -> dict[str, str]:
    text = output_of("systemctl", "show", UNIT, "-p", ",".join(properties))
    return dict(line.split("=", 1) for line in text.splitlines())


def quota() -> str:
    """Of a processor's time, all that the guest's unit has in a second."""
    return shown("CPUQuotaPerSecUSec")["CPUQuotaPerSecUSec"]


def journal_events() -> list[dict[str, str]]:
    """The journal's entries about the guest's life."""
    output_of("journalctl", "--sync")
    lines = output_of(
        *("journalctl", "--output=json", "--boot"),
        *(f"XENNER_DOMID={DOMID}", "SYSLOG_IDENTIFIER=xenner"),
    )
    return [json.loads(line) for line in lines.splitlines()]


def test_a_guest_may_do_little() -> None:
    text = output_of("systemd-analyze", "security", "--no-pager", UNIT)
    match = re.search(r"exposure level for \S+: ([0-9]+)\.([0-9])", text)
    assert match is not None
    assert int(match[1] + match[2]) <= MOST_EXPOSED


def test_from_start_to_stop(store: None, tmp_path: Path) -> None:
    write_file(tmp_path, more="cpu_weight = 512 ; cap = 150")
    output_of("systemctl", "start", UNIT)
    has = shown("ActiveState", "StatusText", "MainPID")
    assert has["ActiveState"] == "active"
    assert re.fullmatch(
        rf"web: domain {DOMID}, 192 MiB, 2 vCPUs, up since [-0-9]+ [:0-9]+",
        has["StatusText"],
    )
    group = Path(f"/proc/{has['MainPID']}/cgroup").read_text()
    assert f":/xenner.slice/{UNIT}\n" in group
    fields = status_of(has["MainPID"])
    uid = str(pwd.getpwnam("xenner-vm").pw_uid)
    assert set(fields["Uid"].split()) == {uid}
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert shown("CPUWeight", "CPUQuotaPerSecUSec", "MemoryMax") == {
        "CPUWeight": "200",
        "CPUQuotaPerSecUSec": "1.500000s",
        "MemoryMax": f"{(192 + 6 + 96) << 20}",
    }
    FILE.write_text(FILE.read_text().replace("cap = 150", "cap = 50"))
    output_of("systemctl", "reload", UNIT)
    assert quota() == "500ms"
    # A file that is wrong by now changes nothing of a guest that runs.
    FILE.write_text(f"{FILE.read_text()}junk\n")
    assert run("systemctl", "reload", UNIT).returncode != 0
    assert shown("MainPID")["MainPID"] == has["MainPID"]
    assert quota() == "500ms"
    output_of("systemctl", "stop", UNIT)
    has = shown("ActiveState", "Result", "ExecMainStatus")
    assert has == {
        "ActiveState": "inactive",
        "Result": "success",
        "ExecMainStatus": "0",
    }
    messages = [e["MESSAGE"] for e in journal_events() if "MESSAGE_ID" in e]
    assert messages[-3:] == [
        "web: is running",
        "web: is asked to shut down by SIGTERM",
        "web: has ended: poweroff, which means destroy",
    ]
    assert not Path(f"/run/xenner/vmcore.{DOMID}").exists()


def wait(condition: str, *, limit_s: int = 60) -> None:
    """`while ...` or `until ...` of the shell; not for ever."""
    script = f"{condition}; do sleep 0.2; done >/dev/null 2>&1"
    output_of("timeout", str(limit_s), "sh", "-c", script)


def test_who_asked_is_in_the_story(store: None, tmp_path: Path) -> None:
    write_file(tmp_path)
    output_of("systemctl", "start", UNIT)
    output_of("xennerctl", "shutdown", "-w", "web")
    output_of("journalctl", "--sync")
    lines = output_of("journalctl", "--boot", "--output=cat", "-u", UNIT)
    assert "web: is asked to shut down by root, with xennerctl\n" in lines
    # It ends by its own process, a moment later.
    output_of("systemctl", "stop", UNIT)


def test_lines_have_fields_and_a_catalogue(store: None, tmp_path: Path) -> None:
    write_file(tmp_path)
    output_of("journalctl", "--update-catalog")
    output_of("systemctl", "start", UNIT)
    output_of("systemctl", "stop", UNIT)
    entry = journal_events()[-1]
    assert entry["XENNER_DOMAIN"] == "web"
    assert entry["XENNER_REASON"] == "poweroff"
    assert entry["_SYSTEMD_UNIT"] == UNIT
    text = output_of("journalctl", "-x", "--boot", f"XENNER_DOMID={DOMID}")
    assert "Guest web has ended: poweroff" in text


def test_the_console_is_in_the_journal(store: None, tmp_path: Path) -> None:
    write_file(tmp_path)
    SETTINGS.write_text("[guests]\nconsole_to_journal = true\n")
    try:
        output_of("systemctl", "start", UNIT)
        output_of("systemctl", "stop", UNIT)
    finally:
        SETTINGS.unlink()
    said = [e for e in journal_events() if e.get("XENNER_DEVICE") == "console"]
    assert any("Linux version" in entry["MESSAGE"] for entry in said), (
        journal_events()
    )
    for entry in said:
        assert entry["MESSAGE"].startswith("web: ")
        assert entry["XENNER_DOMAIN"] == "web"
        assert entry["_SYSTEMD_UNIT"] == UNIT


def test_a_crashing_guest_is_restarted_and_then_left(
    store: None, tmp_path: Path
) -> None:
    init = b"#!/bin/busybox sh\nexit 1\n"
    write_file(tmp_path, init=init, more="on_crash = 'restart'")
    output_of("systemctl", "start", UNIT)
    wait(f"until systemctl is-failed --quiet {UNIT}")
    assert shown("Result")["Result"] == "exit-code"
    told = journal_events()
    crashes = [e for e in told if e.get("XENNER_REASON") == "crash"]
    # Those of its start before this test are there as well.
    assert len(crashes) >= 5
    # What is known of each has the domain's fields as well.
    assert any("Last hypercalls" in entry["MESSAGE"] for entry in told)
    assert told[-1]["MESSAGE"] == "web: ends too often, is left alone"


@pytest.fixture
def xennerd(store: None) -> Iterator[None]:
    output_of("systemctl", "start", "xennerd.service")
    yield
    output_of("systemctl", "stop", "xennerd.service")


def test_a_killed_guest_comes_back(xennerd: None, tmp_path: Path) -> None:
    write_file(tmp_path, more="on_crash = 'restart'")
    output_of("systemctl", "start", UNIT)
    # It goes on with what stood there.
    FILE.unlink()
    shown_now = output_of("journalctl", "--show-cursor", "--lines=0")
    cursor = shown_now.strip().rpartition("-- cursor: ")[2]
    output_of("systemctl", "kill", "--signal=KILL", UNIT)
    wait(
        f"until journalctl -q --after-cursor='{cursor}' "
        f"XENNER_DOMID={DOMID} --grep 'started again' "
        f"&& systemctl is-active --quiet {UNIT}"
    )
    messages = [e["MESSAGE"] for e in journal_events() if "MESSAGE_ID" in e]
    assert messages[-4:] == [
        "web: its process was killed, which means restart",
        "web: is started again",
        f"web: is created as domain {DOMID}: 192 MiB, 2 vCPUs, from {FILE}",
        "web: is running",
    ]
    # Whoever stops the unit is not contradicted.
    output_of("systemctl", "stop", UNIT)
    assert shown("ActiveState")["ActiveState"] == "inactive"
    # And there is nothing any more that it could be started from.
    wait("while ls /run/xenner/config/*.cfg", limit_s=20)


def test_a_killed_guest_comes_back_in_its_unit(
    xennerd: None, tmp_path: Path
) -> None:
    """With the name that it was given: who stops that unit stops it."""
    write_file(tmp_path, more="on_crash = 'restart'")
    output_of("systemctl", "start", UNIT)
    output_of("xennerctl", "rename", "web", "shop")
    output_of("systemctl", "kill", "--signal=KILL", UNIT)
    wait("until systemctl is-active xenner@shop || xennerctl domid shop")
    wait(f"until systemctl is-active --quiet {UNIT}")
    assert output_of("xennerctl", "domid", "shop") == f"{DOMID}\n"
    assert shown("StatusText")["StatusText"].startswith("shop: domain ")
    output_of("systemctl", "stop", UNIT)
    assert run("xennerctl", "domid", "shop").returncode == 1
    # By its file it is called what stands there, whenever that is started.
    output_of("systemctl", "start", UNIT)
    assert output_of("xennerctl", "domid", "web") == f"{DOMID}\n"


def test_a_name_that_was_another_s(xennerd: None, tmp_path: Path) -> None:
    """Who was renamed keeps the unit; who has the name now has one too, and
    limits of its own: those of a part of the name are another's."""
    write_file(tmp_path)
    names = ("old", "web", "web-2")
    try:
        for name, cap in zip(("web", *names[1:]), (50, 70, 90), strict=True):
            settings = (f"name='{name}'", f"cap={cap}", "memory=128")
            output_of("xennerctl", "create", "-p", str(FILE), *settings)
            if name == "web" and cap == 50:
                output_of("xennerctl", "rename", "web", "old")
        units = ("xenner@web", "xenner@web.2", "xenner@web-2")
        for unit, limit in zip(units, ("500ms", "700ms", "900ms"), strict=True):
            text = output_of(
                *("systemctl", "show", f"{unit}.service"),
                *("-p", "ControlGroup,CPUQuotaPerSecUSec"),
            )
            assert set(text.splitlines()) == {
                f"ControlGroup=/xenner.slice/{unit}.service",
                f"CPUQuotaPerSecUSec={limit}",
            }
    finally:
        for name in names:
            run("xennerctl", "destroy", name)
    wait("while ls /run/xenner/config/*.cfg", limit_s=20)


def test_a_name_that_is_no_unit_s_as_it_is(
    xennerd: None, tmp_path: Path
) -> None:
    """It is escaped as systemd-escape(1) has it; the guest has its own."""
    write_file(tmp_path)
    settings = ("name='t~x@1'", "on_crash='restart'", "cpus='all,^0'")
    try:
        output_of("xennerctl", "create", str(FILE), *settings)
        unit = r"xenner@t\x7ex\x401.service"
        assert run("systemctl", "is-active", unit).stdout == "active\n"
        domid = output_of("xennerctl", "domid", "t~x@1")
        output_of("systemctl", "kill", "--signal=KILL", unit)
        wait("until xennerctl domid t~x@1")
        assert output_of("xennerctl", "domid", "t~x@1") == domid
    finally:
        run("xennerctl", "destroy", "t~x@1")
    wait("while ls /run/xenner/config/*.cfg", limit_s=20)


@pytest.fixture
def impatient() -> Iterator[None]:
    """The unit's own time to stop is a minute and a half."""
    drop_in = Path(f"/run/systemd/system/{UNIT}.d/stop.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nTimeoutStopSec=3\n")
    output_of("systemctl", "daemon-reload")
    yield
    drop_in.unlink()
    drop_in.parent.rmdir()
    output_of("systemctl", "daemon-reload")


def test_a_guest_that_does_not_stop_is_destroyed(
    xennerd: None, impatient: None, tmp_path: Path
) -> None:
    """And is not started again: that it ends is what was asked for."""
    poweroff = b"#!/bin/busybox sh\nexec sleep 1000\n"
    write_file(tmp_path, poweroff=poweroff, more="on_crash = 'restart'")
    output_of("systemctl", "start", UNIT)
    with closing(Terminal(Path(f"/run/xenner/console.{DOMID}"))) as shell:
        shell.wait_shell()
    output_of("systemctl", "stop", UNIT)
    wait(f"while ls /run/xenner/*.{DOMID}")
    assert shown("ActiveState", "Result") == {
        "ActiveState": "failed",
        "Result": "timeout",
    }
    assert [e["MESSAGE"] for e in journal_events()][-3:] == [
        "web: is running",
        "web: is asked to shut down by SIGTERM",
        "web: did not stop in time: its process was killed",
    ]


DUMPS = Path("/var/lib/xenner/dump")


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_dead_guest_is_written_to_a_core(
    xennerd: None, tmp_path: Path, is_killed: bool
) -> None:
    """By its own process, which no longer owns that place, or by xennerd."""
    init = INIT if is_killed else b"#!/bin/busybox sh\nexit 1\n"
    write_file(tmp_path, init=init, more="on_crash = 'coredump-destroy'")
    output_of("systemctl", "start", UNIT)
    if is_killed:
        output_of("systemctl", "kill", "--signal=KILL", UNIT)
    wait(f"until ls {DUMPS}/*-web.core && ! ls /run/xenner/*.{DOMID}")
    (core,) = DUMPS.glob("*-web.core")
    assert core.stat().st_mode & 0o777 == 0o600
    assert core.read_bytes()[:4] == b"\x7fELF"
    core.unlink()


def test_a_killed_guest_stays(xennerd: None, tmp_path: Path) -> None:
    write_file(tmp_path, more="on_crash = 'preserve'")
    output_of("systemctl", "start", UNIT)
    output_of("systemctl", "kill", "--signal=KILL", UNIT)
    wait("until xennerctl list web | grep -q -- '---[sc]-'")
    vmcore = Path(f"/run/xenner/vmcore.{DOMID}")
    assert vmcore.stat().st_mode & 0o777 == 0o400
    output_of("xennerctl", "destroy", "web")
    assert not vmcore.exists()


def test_what_it_may_not_read_is_told(store: None, tmp_path: Path) -> None:
    write_file(tmp_path)
    FILE.chmod(0o600)
    assert run("systemctl", "start", UNIT).returncode != 0
    lines = output_of("journalctl", "-u", UNIT, "--output=cat", "-n", "12")
    reason = "Permission denied: it is to be readable to user xenner-vm"
    assert f"xenner-start: {FILE}: {reason}\n" in lines


def test_any_file_is_a_unit(xennerd: None, tmp_path: Path) -> None:
    write_file(tmp_path)
    file = Path("/var/lib/xenner-test-other.cfg")
    file.write_text(FILE.read_text().replace("'web'", "'shop'"))
    try:
        output_of("xennerctl", "create", "-p", str(file), "memory=128")
        rows = output_of("xennerctl", "list", "shop").splitlines()
        assert rows[1].split()[2] == "128"
        assert rows[1].split()[4] == "--p---"
        unit = "xenner@shop.service"
        assert output_of("systemctl", "is-active", unit) == "active\n"
        output_of("xennerctl", "destroy", "shop")
        again = run("xennerctl", "create", str(FILE), "name='a b'")
        assert again.returncode == 2
        assert "a blank or a control character" in again.stderr
        # What was written for it goes with it.
        own = Path("/run/xenner/config/shop.cfg")
        wait(f"while test -e {own}", limit_s=20)
    finally:
        file.unlink()


def test_a_member_of_the_group_runs_guests(
    xennerd: None, tmp_path: Path
) -> None:
    """Who is neither root nor one of the daemons; and nobody else does."""
    write_file(tmp_path)
    file = Path("/var/lib/xenner-test-other.cfg")
    file.write_text(FILE.read_text().replace("'web'", "'shop'"))
    home = Path("/var/lib/xenner-test-home")
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    person = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}")
    group = grp.getgrnam("xenner").gr_gid
    member = (*person, f"--groups={group}", "xennerctl")
    try:
        output_of(*member, "create", str(file))
        assert "shop" in output_of(*member, "list")
        refused = run(*person, "--clear-groups", "xennerctl", "list")
        assert refused.returncode == 1
        assert refused.stderr.endswith(" members of the group xenner)\n")
        # Where the guest's process, which has a view of its own, sees nothing.
        core = home / "core"
        output_of(*member, "dump-core", "shop", str(core))
        assert core.read_bytes()[:4] == b"\x7fELF"
        assert core.stat().st_uid == NOBODY
        typed = f"echo 'echo ty''ped; poweroff -f' | {' '.join(member)}"
        assert "\ntyped\n" in output_of("sh", "-c", f"{typed} console shop")
        output_of(*member, "create", str(file))
        output_of(*member, "destroy", "shop")
        output_of("journalctl", "--sync")
        lines = output_of("journalctl", "-u", "xenner@shop", "--output=cat")
        assert "shop: is destroyed by nobody, with xennerctl\n" in lines
    finally:
        run("xennerctl", "destroy", "shop")
        shutil.rmtree(home)
        file.unlink()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name='web'\nkernel=", f"{FILE}:2: a value"),
        ("name='web'\nkernel='/none'", "/none: "),
        (
            f"name='web'\nkernel='{KERNEL}'\nmemory=128\n"
            "disk=['/none,raw,xvda,w']",
            "xvda: /none: No such file or directory",
        ),
    ],
)
def test_a_wrong_file_is_one_line(
    store: None, text: str, complaint: str
) -> None:
    FILE.write_text(text)
    assert run("systemctl", "start", UNIT).returncode != 0
    lines = output_of("journalctl", "-u", UNIT, "--output=cat", "-n", "12")
    said = [line for line in lines.splitlines() if "xenner-start: " in line]
    assert said
    assert complaint in said[-1]
