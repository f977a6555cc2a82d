# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that can be a domain."""

import os
import subprocess
import sys

from evtchnd.messages import DomainRecord, Type
from tests.support.evtchnd import LIMIT_S, TOP, Client, Daemon


class GuestProcess:
    """A process that can be registered as a domain: it passes on what it is
    told to the socket, and the replies back. No descriptors."""

    def __init__(self, daemon: Daemon) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.component.evtchnd.guest"],
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "EVTCHND_SOCKET": str(daemon.path)},
        )
        self.pidfd = os.pidfd_open(self.process.pid)

    def register(self, launcher: Client, domid: int = 1) -> None:
        """As domain `domid`, with 4096 ports and two vCPUs."""
        record = DomainRecord(domid, nr_ports=4096, nr_vcpus=2, nr_pages=64)
        launcher.must(Type.REGISTER, [self.pidfd], domain=record)

    def ask(self, line: str) -> str:
        """See guest.py."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()

    def end(self) -> None:
        """Kill it, as a crashing VM process."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def close(self) -> None:
        self.end()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        os.close(self.pidfd)
