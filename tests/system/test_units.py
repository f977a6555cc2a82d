# SPDX-License-Identifier: GPL-2.0-or-later
"""The suite's own units under a real systemd, as a package installs them."""

import grp
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.system.commands import output_of, run, status_of
from xenner.evtchn import Evtchnd
from xenner.types import Domid

SYSTEM = Path("/usr/lib/systemd/system")
BACKENDS = ("blkbackd.service", "netbackd.service", "xennerd.service")
SOCKET = Path("/run/xenner/evtchnd.socket")
STORE = Path("/run/xenstored/socket")
DEFAULTS = Path("/etc/default/xenner")
UNITS = Path(__file__).resolve().parents[2] / "units"
XEN = Path(__file__).resolve().parents[2] / "build/xen-utils/usr/lib"


def state_of(unit: str) -> str:
    return run("systemctl", "is-active", unit).stdout.strip()


@pytest.fixture
def evtchnd_socket() -> Iterator[Path]:
    output_of("systemctl", "start", "evtchnd.socket")
    yield SOCKET
    output_of("systemctl", "stop", "evtchnd.socket", "evtchnd.service")
    assert not SOCKET.exists()


def test_systemd_finds_no_fault_in_them() -> None:
    kinds = (".service", ".socket", ".slice", ".target")
    units = [SYSTEM / p.name for p in UNITS.iterdir() if p.suffix in kinds]
    assert SYSTEM / "xennerd.service" in units
    done = run("systemd-analyze", "verify", *map(str, units))
    assert (done.returncode, done.stderr) == (0, "")


def test_netbackd_may_change_networks_and_nothing_else() -> None:
    bounds = output_of(
        "systemctl", "show", "-PCapabilityBoundingSet", "netbackd.service"
    )
    assert bounds.strip() == "cap_net_admin"


@pytest.fixture
def backends() -> Iterator[None]:
    output_of("systemctl", "start", *BACKENDS)
    yield
    output_of(
        *("systemctl", "stop", *BACKENDS, "xenstored.service"),
        *("evtchnd.socket", "evtchnd.service"),
    )


def test_store_and_backends_run_with_what_they_may(backends: None) -> None:
    everything = output_of(
        "python3",
        "-c",
        "from xenner.xenstore import Xenstore; from pathlib import Path;"
        "store = Xenstore(Path('/run/xenstored/socket'));"
        "store.write('/local/domain/0/backend/vif/999/0/state', '1');"
        "store.remove('/local/domain/0/backend/vif/999');"
        "print(store.directory('/local/domain/0/backend'))",
    )
    assert "vif" in everything
    for unit in ("xenstored.service", *BACKENDS):
        assert state_of(unit) == "active"
        restarts = output_of("systemctl", "show", "-PNRestarts", unit)
        assert restarts.strip() == "0", unit


@pytest.mark.parametrize(
    "name",
    [
        *("evtchnd", "xennerd", "xenner-units"),
        *("xenstored", "blkbackd", "netbackd"),
    ],
)
def test_they_may_do_little(name: str) -> None:
    unit = str(SYSTEM / f"{name}.service")
    # Exposure, times ten.
    command = ("security", "--offline=yes", "--threshold=20")
    done = run("systemd-analyze", *command, unit)
    assert done.returncode == 0, done.stdout


def test_each_has_a_watchdog() -> None:
    for path in SYSTEM.glob("*.service"):
        if (UNITS / path.name).exists():
            assert "\nWatchdogSec=60\n" in path.read_text(), path


@pytest.fixture
def hasty_units() -> Iterator[None]:
    """xenner-units, asked for life every second; nobody waits a minute."""
    drop_in = Path("/run/systemd/system/xenner-units.service.d/hasty.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=3\n")
    output_of("systemctl", "daemon-reload")
    output_of("systemctl", "start", "xenner-units.service")
    yield
    output_of("systemctl", "stop", "xenner-units.socket", "xenner-units")
    drop_in.unlink()
    drop_in.parent.rmdir()
    output_of("systemctl", "daemon-reload")


def test_xenner_units_is_watched(hasty_units: None) -> None:
    """It proves that it serves by its own socket, which is xennerd's; one
    that hangs is started again."""

    def shown(name: str) -> str:
        return output_of("systemctl", "show", "-P", name, "xenner-units")

    pid, fed = shown("MainPID"), set[str]()
    deadline = time.monotonic() + limit_s(30)
    while len(fed) < 4:
        fed.add(shown("WatchdogTimestampMonotonic"))
        assert time.monotonic() < deadline
    assert shown("MainPID") == pid
    os.kill(int(pid), signal.SIGSTOP)
    while shown("NRestarts") != "1\n" or shown("ActiveState") != "active\n":
        assert time.monotonic() < deadline
    assert shown("MainPID") != pid


def test_the_first_client_starts_evtchnd(evtchnd_socket: Path) -> None:
    assert state_of("evtchnd.service") == "inactive"
    with Evtchnd(evtchnd_socket) as client:
        channel = client.alloc_unbound(Domid(0))
        other = client.bind_interdomain(Domid(0), channel.port)
        assert other.remote_port == channel.port
        channel.close()
        other.close()
    assert state_of("evtchnd.service") == "active"


def test_nobody_is_refused_during_a_restart(evtchnd_socket: Path) -> None:
    with Evtchnd(evtchnd_socket):
        pass
    output_of("systemctl", "stop", "evtchnd.service")
    assert state_of("evtchnd.socket") == "active"
    with Evtchnd(evtchnd_socket):
        assert state_of("evtchnd.service") == "active"


@pytest.fixture
def store_socket() -> Iterator[None]:
    output_of("systemctl", "start", "xenstored.socket")
    yield
    output_of(
        *("systemctl", "stop", "xenstored.socket", "xenstored.service"),
        *("evtchnd.socket", "evtchnd.service"),
    )
    assert not STORE.exists()


def test_xens_client_starts_the_store(store_socket: None) -> None:
    assert state_of("xenstored.service") == "inactive"
    assert output_of("xenstore-read", "/local/domain/0/domid") == "0\n"
    assert state_of("xenstored.service") == "active"
    # The next one has what this one had.
    output_of("xenstore-write", "/tool/kept", "yes")
    output_of("systemctl", "stop", "xenstored.service")
    assert STORE.is_socket()
    assert output_of("xenstore-read", "/tool/kept") == "yes\n"
    output_of("xenstore-rm", "/tool/kept")


def test_xenstore_ls_and_watch(store_socket: None) -> None:
    lines = output_of("xenstore-ls", "-fp", "/local/domain").splitlines()
    assert '/local/domain/0/domid = "0"   (n0)' in lines
    with subprocess.Popen(
        ["xenstore-watch", "-n", "2", "/tool/seen"], stdout=subprocess.PIPE
    ) as watch:
        try:
            assert watch.stdout is not None
            # The first event says that the watch is there.
            assert watch.stdout.readline() == b"/tool/seen\n"
            output_of("xenstore-write", "/tool/seen/below", "1")
            assert watch.stdout.readline() == b"/tool/seen/below\n"
            assert watch.wait(limit_s(30)) == 0
        finally:
            watch.kill()
    output_of("xenstore-rm", "/tool/seen")


@pytest.mark.parametrize(
    ("unit", "user", "capability"),
    [
        ("xenstored.service", "xenner-store", 0),
        ("blkbackd.service", "xenner-blk", 0),
        # CAP_FOWNER and CAP_NET_ADMIN of capabilities(7).
        ("xennerd.service", "xennerd", 1 << 3),
        ("netbackd.service", "xenner-net", 1 << 12),
    ],
)
def test_daemons_are_users_of_their_own(
    backends: None, unit: str, user: str, capability: int
) -> None:
    pid = output_of("systemctl", "show", "-PMainPID", unit).strip()
    fields = status_of(pid)
    assert set(fields["Uid"].split()) == {str(pwd.getpwnam(user).pw_uid)}
    assert set(fields["Gid"].split()) == {str(grp.getgrnam("xenner").gr_gid)}
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == capability
    assert fields["NoNewPrivs"] == "1"


def test_whoever_is_no_member_serves_nobody(evtchnd_socket: Path) -> None:
    ask = "from xenner.evtchn import Evtchnd; from pathlib import Path;"
    ask += f"Evtchnd(Path('{evtchnd_socket}')).close()"
    command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    refused = run(*command, "python3", "-c", ask)
    assert refused.returncode == 1
    group = f"--groups={grp.getgrnam('xenner').gr_gid}"
    output_of(*command[:-1], group, "python3", "-c", ask)


@pytest.fixture
def configured() -> Iterator[Callable[[str], None]]:
    """Writes the line that says whose store it is."""
    drop_in = Path("/run/systemd/system/xenstored.service.d/libraries.conf")

    def write(line: str) -> None:
        drop_in.parent.mkdir(parents=True)
        # It is not installed as its package would do it.
        ours = "/usr/lib/x86_64-linux-gnu/xenner"
        drop_in.write_text(
            f"[Service]\nEnvironment=LD_LIBRARY_PATH={ours}:"
            f"{XEN}/x86_64-linux-gnu\n"
        )
        DEFAULTS.write_text(f"{line}\n")
        output_of("systemctl", "daemon-reload")

    yield write
    DEFAULTS.unlink()
    drop_in.unlink()
    drop_in.parent.rmdir()
    output_of("systemctl", "daemon-reload")


@pytest.mark.parametrize("name", ["xenstored", "oxenstored"])
def test_one_line_makes_it_xens_store(
    name: str, configured: Callable[[str], None], store_socket: None
) -> None:
    program = XEN / "xen-4.17/bin" / name
    if not program.exists():
        pytest.skip(f"packages: {name} is not unpacked: run tools/setup")
    configured(f"XENNER_XENSTORED={program}")
    output_of("systemctl", "start", "xenstored.service")
    group = output_of(
        "systemctl", "show", "-PControlGroup", "xenstored.service"
    )
    pids = Path(f"/sys/fs/cgroup{group.strip()}/cgroup.procs").read_text()
    programs = {os.readlink(f"/proc/{pid}/exe") for pid in pids.split()}
    assert str(program) in programs
    output_of("xenstore-write", "/tool/x", "1")
    assert output_of("xenstore-read", "/tool/x") == "1\n"
    output_of("systemctl", "stop", "xenstored.service")
    result = output_of("systemctl", "show", "-PResult", "xenstored.service")
    assert result == "success\n"


def test_evtchnd_is_nobody(evtchnd_socket: Path) -> None:
    with Evtchnd(evtchnd_socket):
        pid = output_of("systemctl", "show", "-PMainPID", "evtchnd.service")
        fields = status_of(pid.strip())
    assert fields["Uid"].split()[0] != "0"
    assert int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
