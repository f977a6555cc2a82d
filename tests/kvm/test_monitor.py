# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own client with Debian's kernel: memory, dump, power."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import EventListener, QMPClient

from tests.environments.rules import limit_s
from tests.support.services import Host, make_disk, open_host

# As tests/kvm/test_xenstore.py: the lab's root has no xenstore clients.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_MIB = 1 << 20


@pytest.fixture
def host(
    usable_kvm: None, debian_kernel: Path, tmp_path: Path
) -> Iterator[Host]:
    """A host that ends without a complaint and leaves no guest's memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        disk = make_disk(tmp_path)
        with open_host(Path(name), debian_kernel, disk) as host:
            yield host
        assert not list(Path(name).glob("vmcore*"))


def test_balloon_dump_and_powerdown(host: Host, tmp_path: Path) -> None:
    guest = host.boot("-monitor", f"unix:{host.directory}/qmp")
    core = tmp_path / "core"
    seen: list[str] = []

    async def wait_event(listener: EventListener, name: str) -> dict[str, Any]:
        async for event in listener:
            seen.append(str(event["event"]))
            if event["event"] == name:
                data: Any = event.get("data", {})
                return dict(data)
        raise AssertionError(f"no {name}")

    async def session() -> None:
        client: Any = QMPClient("test")
        await client.connect(f"{host.directory}/qmp")
        with client.listener() as events:
            before = (await client.execute("query-balloon"))["actual"]
            assert before == 256 * _MIB
            await client.execute("balloon", {"value": 192 * _MIB})
            while True:
                data = await wait_event(events, "BALLOON_CHANGE")
                if data["actual"] == 192 * _MIB:
                    break
            now = await client.execute("query-balloon")
            assert now == {"actual": 192 * _MIB}
            await client.execute(
                "dump-guest-memory",
                {"paging": True, "protocol": f"file:{core}"},
            )
            await wait_event(events, "DUMP_COMPLETED")
            await client.execute("system_powerdown")
            end = await wait_event(events, "SHUTDOWN")
            assert end == {"guest": True, "reason": "guest-shutdown"}
        with suppress(EOFError):
            await client.disconnect()

    asyncio.run(asyncio.wait_for(session(), limit_s(60)))
    assert guest.end() == (0, "")
    assert seen[-5:] == [
        *("STOP", "RESUME", "DUMP_COMPLETED", "POWERDOWN", "SHUTDOWN")
    ]
    # Linux's own banner is in it, and what was given back takes no room.
    assert b"Linux version " in core.read_bytes()
    assert core.stat().st_blocks * 512 < 210 * _MIB
    listing = subprocess.run(
        ["readelf", "-lW", core], capture_output=True, text=True, check=True
    )
    assert "CORE (Core file)" in listing.stdout
