# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames through a vif: sent and received at either end."""

import socket

from tests.component.netbackd.frames import GUEST_MAC
from tests.support.net.rig import Frontend

CSUM_BLANK = 1
OK = "status=0"


def send(
    frontend: Frontend,
    data: bytes,
    *,
    flags: int = 0,
    gso: tuple[int, int] = (0, 0),
    slot: int = 4096,
    queue: int = 0,
) -> str:
    line = f"send {queue} {flags} {gso[0]} {gso[1]} {slot} {data.hex()}"
    answer = frontend.ask(line)
    # One status for each slot, all alike.
    statuses = set(answer.removeprefix("status=").split())
    return f"status={','.join(sorted(statuses))}"


def next_frame(raw: socket.socket, *, to: bytes = b"\xff" * 6) -> bytes:
    """The next frame of the guest's; the host has some of its own."""
    while True:
        data = raw.recv(70000)
        if data[6:12] == GUEST_MAC and data[:6] == to:
            return data


def receive(frontend: Frontend, kind: str = "88b5") -> tuple[str, bytes]:
    """Flags and the like, and the next frame of that type."""
    while True:
        answer = frontend.ask("receive 0 10000")
        head, _, data = answer.rpartition(" ")
        assert head, answer
        if data[24:28] == kind:
            return head, bytes.fromhex(data)
