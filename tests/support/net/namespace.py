# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace of a test's own: nothing of the host's is touched."""

import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import pytest
from pyroute2 import netns

ETH_P_ALL = 3
_TUNSETIFF, _TAP = 0x400454CA, 0x1002  # linux/if_tun.h
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Namespace:
    """It lives as long as its holder."""

    pid: int

    def command(self, *words: str) -> list[str]:
        """A command line that runs in it."""
        return ["nsenter", "-t", str(self.pid), "-n", *words]

    def run(self, *words: str) -> str:
        """What a command in it says; it must succeed."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def ip(self, line: str) -> str:
        """ip(8)."""
        return self.run("ip", *line.split())

    def inside(self, make: Callable[[], _Result]) -> _Result:
        """Call something in it: a socket stays where it was made."""
        made: list[_Result] = []

        def enter() -> None:
            netns.setns(f"/proc/{self.pid}/ns/net")
            made.append(make())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return made[0]

    def tap(self, name: str) -> BinaryIO:
        """A plain tap without any offloads; it goes when it is closed."""

        def make() -> BinaryIO:
            fd = os.open("/dev/net/tun", os.O_RDWR)
            request = struct.pack("16sH22x", name.encode(), _TAP)
            fcntl.ioctl(fd, _TUNSETIFF, request)
            return os.fdopen(fd, "r+b", buffering=0)

        return self.inside(make)

    def packets(self, interface: str) -> socket.socket:
        """packet(7): all that passes an interface; the caller's."""

        def make() -> socket.socket:
            # For all protocols from its first moment on.
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            raw.bind((interface, ETH_P_ALL))
            raw.settimeout(10)
            return raw

        return self.inside(make)


@contextmanager
def open_namespace() -> Iterator[Namespace]:
    """With its loopback up. Skips where that is not allowed."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("network: root and /dev/net/tun are needed")
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        if not holder.stdout.readline():
            pytest.skip("network: namespaces are not allowed here")
        yield Namespace(holder.pid)
    finally:
        holder.kill()
        holder.communicate()
