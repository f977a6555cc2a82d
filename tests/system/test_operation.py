# SPDX-License-Identifier: GPL-2.0-or-later
"""A host as its operator has it: a guest whose root is a logical volume and
whose interface is in a bridge, and everything that serves it is killed once.

In the machine, where each start of a Python program takes seconds, it is the
logical volume that counts; all the rest of the killing is the container's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.environments.rules import Environment, current_environment, limit_s
from tests.support.diskguest import is_clean, make_initrd, make_root
from tests.system.commands import output_of, run
from tests.system.guestterminal import Terminal
from xenner.paths import xenstore_of
from xenner.xenstore import Xenstore

pytestmark = pytest.mark.kvm

DOMID = 1
UNIT = f"xenner@{DOMID}.service"
FILE = Path(f"/etc/xenner/{DOMID}.cfg")
KERNEL = Path(__file__).resolve().parents[2] / "build/debian/vmlinuz"
NETFRONT = KERNEL.parent / "modules/xen-netfront.ko"
# The units have a /tmp of their own.
FILES = Path("/var/lib/xenner-operation")
BRIDGE = "xenbr0"
HOST, GUEST = "10.9.0.1", "10.9.0.2"
DAEMONS = ("xenstored", "blkbackd", "netbackd", "xennerd")
IS_MACHINE = current_environment() is Environment.MACHINE
KILLED = ("blkbackd",) if IS_MACHINE else ("evtchnd", *DAEMONS, "xenner-units")
_SIZE_BYTES = 32 << 20
_ROOT_INIT = f"""\
#!/bin/sh
export PATH=/bin PS1=
stty -echo
printf '#!/bin/sh\\nmount -o remount,ro /\\nexec /bin/poweroff -f\\n' \\
    >/sbin/poweroff
chmod +x /sbin/poweroff
insmod /run/xen-netfront.ko
until ip link set eth0 up; do sleep 0.1; done 2>/dev/null
ip addr add {GUEST}/24 dev eth0
exec sh
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The guest's disk: a logical volume; a file in the container, which has
    no device mapper."""
    FILES.mkdir()
    path = Path(f"/dev/lab/root{DOMID}") if IS_MACHINE else FILES / "root"
    if not IS_MACHINE:
        with path.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        shutil.chown(path, "xenner-blk")
    else:
        output_of(
            *("lvcreate", "--yes", "--quiet", "--wipesignatures", "n"),
            *("--size", f"{_SIZE_BYTES}b", "--name", path.name, "lab"),
        )
    make_root(tmp_path, path, init=_ROOT_INIT)
    given = {NETFRONT.name: NETFRONT.read_bytes()}
    shutil.copy(make_initrd(tmp_path, KERNEL, given), FILES / "initrd")
    yield path
    if IS_MACHINE:
        output_of("lvremove", "--yes", "--quiet", f"lab/{path.name}")
    shutil.rmtree(FILES)


@pytest.fixture
def since(root: Path) -> Iterator[str]:
    """A bridge, and a file for the guest; where the journal was then."""
    for words in (
        f"link add {BRIDGE} type bridge",
        f"addr add {HOST}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ):
        output_of("ip", *words.split())
    FILE.write_text(
        f"name = 'web'\nkernel = '{KERNEL}'\nmemory = 128\n"
        f"ramdisk = '{FILES}/initrd'\n"
        "extra = 'root=/dev/xvda console=hvc0 quiet panic=-1'\n"
        f"disk = ['phy:{root},xvda,w']\nvif = ['bridge={BRIDGE}']\n"
        f"on_crash = 'restart'\nwait_devices = {0 if IS_MACHINE else 80}\n"
    )
    shown = output_of("journalctl", "--show-cursor", "--lines=0")
    yield shown.strip().rpartition("-- cursor: ")[2]
    run("systemctl", "stop", UNIT)
    daemons = (*DAEMONS, "evtchnd.socket", "evtchnd.service")
    run("systemctl", "stop", "xenner.target", *daemons)
    run("systemctl", "reset-failed")
    output_of("ip", "link", "del", BRIDGE)
    FILE.unlink()


def pid_of(unit: str) -> int:
    return int(output_of("systemctl", "show", "-PMainPID", unit))


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + limit_s(30)
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(limit_s(0.05))


def kill(unit: str) -> None:
    """As with kill -9; until the service manager has a new one."""
    before = pid_of(unit)
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        # In systemd's order, whatever is asked for first.
        pid, state = output_of(
            "systemctl", "show", "-PMainPID", "-PActiveState", unit
        ).split()
        return state == "active" and int(pid) != before

    wait_until(is_back, f"{unit} did not come back")


def use(shell: Terminal, text: str) -> None:
    """The guest's disk keeps what is written, and its interface speaks."""
    shell.do(f"echo {text} >/kept && sync && echo 3 >/proc/sys/vm/drop_caches")
    assert text in shell.do("cat /kept")
    # What is on its way while a backend is not there may be lost.
    shell.do(f"until ping -c 1 -W 1 {HOST} >/dev/null; do :; done")


def entries(since: str, *options: str) -> list[dict[str, str]]:
    """The journal's from then on."""
    output_of("journalctl", "--sync")
    lines = output_of(
        *("journalctl", "--output=json", f"--after-cursor={since}"), *options
    )
    return [json.loads(line) for line in lines.splitlines()]


def loud_lines(since: str) -> list[str]:
    """What the suite's programs have said at warning or above."""
    daemons = (*DAEMONS, "evtchnd", "xenner-units")
    names = {f"{name}.service" for name in daemons} | {UNIT}
    return [
        entry["MESSAGE"]
        for entry in entries(since, "--priority=warning")
        if entry.get("_SYSTEMD_UNIT") in names
    ]


def journal_events(since: str) -> list[str]:
    """What `journalctl -u xenner@1` has of us. What is disconnected when, of
    several devices, and of a guest that is gone, is not always the same."""
    return [
        entry["MESSAGE"]
        for entry in entries(since, f"--unit={UNIT}")
        if entry.get("SYSLOG_IDENTIFIER") == "xenner"
        and "MESSAGE_ID" in entry
        and not entry["MESSAGE"].endswith(" is disconnected")
    ]


BEGIN = [
    f"web: is created as domain {DOMID}: 128 MiB, 1 vCPU, from {FILE}",
    "web: is running",
    "web: xvda is connected",
    "web: vif 0 is connected",
]
KILL = [
    "web: its process was killed, which means restart",
    "web: is started again",
]
END = [
    "web: is asked to shut down by SIGTERM",
    "web: has ended: poweroff, which means destroy",
]


def start_as_at_boot() -> None:
    """What is enabled is pulled in by the target, and waited for."""
    output_of("systemctl", "enable", "--quiet", UNIT)
    try:
        output_of("systemctl", "start", "xenner.target")
    finally:
        run("systemctl", "disable", "--quiet", UNIT)
    assert run("systemctl", "is-active", UNIT).stdout == "active\n"


def test_a_guest_s_days(since: str, root: Path) -> None:
    if IS_MACHINE:
        output_of("systemctl", "start", UNIT)
    else:
        start_as_at_boot()
        with Xenstore(xenstore_of({})) as store:
            for device in (f"vbd/{DOMID}/51712", f"vif/{DOMID}/0"):
                state = store.read(f"/local/domain/0/backend/{device}/state")
                assert state == "4", device
    with closing(Terminal(Path(f"/run/xenner/console.{DOMID}"))) as shell:
        shell.wait_shell()
        use(shell, "first")
        # Whoever tells it may be late, and is killed below.
        wait_until(
            lambda: journal_events(since) == BEGIN,
            "its devices are not told of",
        )
        (link,) = json.loads(
            output_of("ip", "-json", "link", "show", f"vif{DOMID}.0")
        )
        assert link["master"] == BRIDGE
        for daemon in KILLED:
            kill(f"{daemon}.service")
            use(shell, f"without-{daemon}")
    if not IS_MACHINE:
        kill(UNIT)
        with closing(Terminal(Path(f"/run/xenner/console.{DOMID}"))) as shell:
            shell.wait_shell()
            assert f"without-{KILLED[-1]}" in shell.do("cat /kept")
            use(shell, "again")
            whole = [*BEGIN, *KILL, *BEGIN]
            wait_until(
                lambda: journal_events(since) == whole, "nor those after a kill"
            )
    output_of("systemctl", "stop", UNIT)
    assert output_of("systemctl", "show", UNIT, "-PResult") == "success\n"
    assert is_clean(root)
    output_of("systemctl", "stop", *DAEMONS, "evtchnd", "evtchnd.socket")
    assert output_of("systemctl", "--failed", "--plain", "--no-legend") == ""
    assert loud_lines(since) == ([] if IS_MACHINE else KILL[:1])
    again = [] if IS_MACHINE else [*KILL, *BEGIN]
    assert journal_events(since) == [*BEGIN, *again, *END]
    for daemon, device in (("blkbackd", "vbd/51712"), ("netbackd", "vif/0")):
        said, *_ = entries(since, f"--unit={daemon}", f"XENNER_DEVICE={device}")
        assert said["XENNER_DOMID"] == str(DOMID)
        assert said["XENNER_DOMAIN"] == "web"
        assert len(said["XENNER_UUID"]) == len(str(uuid.uuid4()))
