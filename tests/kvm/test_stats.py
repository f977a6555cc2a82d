# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-stats looks at a guest that runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environments import programs
from tests.environments.rules import limit_s
from tests.kvm.xenner import Xenner

DOMID = 402


def stats(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "xennerd.stats.__main__"),
            *("--runtime-dir", str(directory), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=limit_s(30),
        check=False,
    )


@pytest.fixture
def spinning(xenner: Xenner) -> Iterator[Path]:
    """A guest that said hello and spins; its runtime directory."""
    directory = xenner.runtime_dir
    command = xenner.command(
        programs.tiny(),
        *("-m", "16", "-append", "s", "-domid", str(DOMID)),
        *("-name", "spin", "-monitor", f"unix:{directory}/qmp"),
    )
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hello\n"
        try:
            yield directory
        finally:
            process.terminate()
            process.wait(limit_s(15))


def one(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    (domain,) = json.loads(done.stdout)["domains"]
    assert isinstance(domain, dict)
    return domain


def test_what_emu_counts_and_what_kvm_counts(spinning: Path) -> None:
    # A moment after hello it spins and does nothing else.
    deadline = time.monotonic() + limit_s(15)
    while True:
        domain = one(stats(spinning, "spin", "--json"))
        (vcpu,) = domain["vcpus"]
        if vcpu["time_shares"]["guest"] > 0.5:
            break
        assert time.monotonic() < deadline, vcpu["time_shares"]
    assert (domain["domid"], domain["state"]) == (DOMID, "running")
    assert vcpu["hypercalls"]["event_channel_op"] == 1
    assert vcpu["cpu_s"] > 0
    assert domain["guest_bytes"] == 16 << 20
    # Every KVM that this runs on has the statistics.
    numbers = {stat["name"]: stat["value"] for stat in vcpu["kvm"]}
    assert numbers["exits"] > 0
    assert "why_no_kvm" not in domain


def test_watching(spinning: Path) -> None:
    done = stats(spinning, "-w", "0.3", "-n", "2", "--json", str(DOMID))
    first, second = map(json.loads, done.stdout.splitlines())
    assert "rates" not in first["domains"][0]
    assert second["domains"][0]["rates"]["events_and_entries"]["irq"] > 0


def test_for_people_and_for_prometheus(spinning: Path) -> None:
    text = stats(spinning).stdout
    assert text.startswith(f"domain {DOMID} (spin), running, 1 vCPU")
    assert "event_channel_op" in text
    page = stats(spinning, "--prometheus").stdout
    assert "\nxenner_kvm_vcpu_exits_total{" in page


def test_a_kept_vmcore_is_read_after_death(
    spinning: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "core"
    copy.write_bytes((spinning / f"vmcore.{DOMID}").read_bytes())
    domain = one(stats(spinning, "--json", str(copy)))
    assert (domain["state"], domain["why_no_kvm"]) == ("dead", "it has ended")


def test_who_is_not_there(spinning: Path) -> None:
    for name in ("403", "nobody", "/no/such/core"):
        done = stats(spinning, name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("xenner-stats: ")
        assert done.stderr.count("\n") == 1
