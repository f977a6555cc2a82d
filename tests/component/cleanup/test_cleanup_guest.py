# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-cleanup after a real guest whose VM process was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.component.cleanup.host import Host
from tests.environments import programs
from xennerd.cleanup.liveness import find_live_domains

HANDLE = "00000000-0000-4000-8000-000000000007"


def boot(host: Host, domid: int, *options: str) -> subprocess.Popen[bytes]:
    """A guest of one page that said hello and spins."""
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "xennerd.standalone",
                "-m",
                "16",
                "-append",
                "s",
            ),
            *("-kernel", str(programs.tiny()), "-domid", str(domid)),
            *options,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    host.stack.enter_context(process)
    host.stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == b"hello\n"
    return process


def test_all_that_a_killed_guest_leaves(usable_kvm: None, host: Host) -> None:
    outside = (
        *("-runtime-dir", str(host.directory), "-uuid", HANDLE),
        *("-evtchnd", str(host.evtchnd.path)),
        *("-xenstore", str(host.store.socket_path)),
    )
    monitor = host.directory / "web.qmp"
    process = boot(host, 430, *outside, "-monitor", f"unix:{monitor}")
    # It lives, and nothing of it is anybody's to remove.
    assert host.states("--force", 430) == {}
    assert "/local/domain/430" in host.nodes()
    host.kill(process)
    found = host.states("--force", 430)
    assert set(found.values()) == {"removed"}
    assert found.keys() >= {
        *("/local/domain/430", f"/vm/{HANDLE}", "/libxl/430"),
        str(host.directory / "vmcore.430"),
        str(host.directory / "monitor.430"),
    }
    assert host.nodes() == set()
    sockets = host.states("--force", "--only", "socket")
    assert sockets == {str(monitor): "removed"}
    # The number is free: the next one starts as if nothing had been.
    process = boot(host, 430, *outside)
    host.kill(process)
    host.states("--force", 430)


def test_a_guest_elsewhere_is_a_reason_for_doubt(
    usable_kvm: None, host: Host, tmp_path: Path
) -> None:
    boot(host, 430, "-runtime-dir", str(tmp_path), "-serial", "stdio")
    living = find_live_domains(host.directory, host.directory / "no.socket")
    assert "may be that domain" in living.doubt
    # evtchnd, where it answers, knows all that can have nodes or taps.
    assert find_live_domains(host.directory, host.evtchnd.path).doubt == ""


def test_a_guest_of_a_domain_file_is_one(
    usable_kvm: None, host: Host, tmp_path: Path
) -> None:
    """As a unit or by xennerd: its nodes are left alone while evtchnd, which
    knows it, does not answer."""
    file = tmp_path / "web.cfg"
    file.write_text(
        f"name='web'\nkernel='{programs.tiny()}'\nmemory=16\nextra='s'\n"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "xennerd.domain.start", "--domid", "430"),
            *("--runtime-dir", str(tmp_path), str(file)),
            *("--evtchnd", str(host.evtchnd.path)),
            *("--xenstore", str(host.store.socket_path)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    host.stack.enter_context(process)
    host.stack.callback(process.kill)
    assert process.stderr is not None
    assert any(b"is running" in line for line in process.stderr)
    gone = ("--evtchnd", host.directory / "no.socket")
    _status, said = host.cleanup("--force", *gone, 430)
    found = {item["name"]: item["state"] for item in said["items"]}
    assert found["/local/domain/430"] == "left"
    assert set(found.values()) == {"left"}
    assert "/local/domain/430" in host.nodes()
