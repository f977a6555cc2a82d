# SPDX-License-Identifier: GPL-2.0-or-later
"""A host for xenner-cleanup: evtchnd, a store, domains that live and die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evtchnd.messages import DomainRecord, Type
from tests.support.evtchnd import Client, Daemon
from tests.support.store import StoreProcess
from xenner.xenstore import Xenstore
from xennerd.cleanup.__main__ import main

_LIMIT_S = 20


# Owns a domain's memory as a VM process does, and nothing else of it.
_DOMAIN = """
import sys, time
from pathlib import Path
from xenner.types import Domid
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import open_vmcore
with open_vmcore(Domid(int(sys.argv[2])), layout=machine_layout(256),
                 nr_vcpus=1, runtime_dir=Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@dataclass
class Host:
    """Everything in a directory of its own; domids from 430 up."""

    directory: Path
    evtchnd: Daemon
    store: StoreProcess
    stack: ExitStack
    capsys: pytest.CaptureFixture[str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        """A Python process that says that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdout=subprocess.PIPE,
        )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def start_domain(self, domid: int) -> subprocess.Popen[bytes]:
        return self.start(_DOMAIN, self.directory, domid)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(_LIMIT_S)

    def register(self, process: subprocess.Popen[bytes], domid: int) -> None:
        """Make a process known to evtchnd as that domain's."""
        client = self.stack.enter_context(Client(self.evtchnd.path))
        pidfd = os.pidfd_open(process.pid)
        self.stack.callback(os.close, pidfd)
        record = DomainRecord(domid, nr_ports=4096, nr_vcpus=1, nr_pages=64)
        client.must(Type.REGISTER, [pidfd], domain=record)

    def write_nodes(self, domid: int, handle: str) -> None:
        """What a toolstack writes for a domain, as far as it matters."""
        top = f"/local/domain/{domid}"
        with Xenstore(self.store.socket_path) as store:
            store.write(f"{top}/vm", f"/vm/{handle}")
            store.write(f"/vm/{handle}/name", "x")
            store.write(f"/libxl/{domid}/type", "pv")
            store.write(f"/local/domain/0/backend/vbd/{domid}/1/state", "4")

    def nodes(self) -> set[str]:
        """What of that is there."""
        with Xenstore(self.store.socket_path) as store:
            return {
                f"{parent}/{name}"
                for parent in (
                    *("/local/domain", "/vm", "/libxl"),
                    "/local/domain/0/backend/vbd",
                )
                for name in store.directory(parent)
                if name != "0"
            }

    def cleanup(self, *arguments: object) -> tuple[int, dict[str, Any]]:
        """Status and JSON. Only of domains that are named, or of sockets:
        the rest of this machine is none of a test's business."""
        assert "socket" in arguments or any(
            isinstance(argument, int) for argument in arguments
        )
        with pytest.raises(SystemExit) as end:
            main(
                [
                    *("--json", "--runtime-dir", str(self.directory)),
                    *("--xenstore", str(self.store.socket_path)),
                    *map(str, arguments),
                ]
            )
        assert isinstance(end.value.code, int)
        return end.value.code, json.loads(self.capsys.readouterr().out)

    def states(self, *arguments: object) -> dict[str, str]:
        """Name -> "stale", "removed" or "left", of a run that goes well."""
        status, said = self.cleanup(*arguments)
        assert (status, said["notes"]) == (0, [])
        return {item["name"]: item["state"] for item in said["items"]}
