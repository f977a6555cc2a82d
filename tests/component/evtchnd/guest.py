# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VM process would be to evtchnd, told line by line what to do.

attach MEMORY            hand in that file and an eventfd
call TYPE NAME=VALUE...  a request; answers the fields of the reply
ring                     ring the last reply's "out"
hears                    wait until its "in" rings
pending PORT             is that bit set in the file's page?
irq                      wait until the irqfd's eventfd rings
"""

import fcntl
import mmap
import os
import select
import sys
from pathlib import Path
from typing import Any

from evtchnd.messages import Type
from tests.support.evtchnd import LIMIT_S, Client
from xenner import abi


def heard(fd: int) -> str:
    """Wait for an eventfd, and read it."""
    if not select.select([fd], [], [], LIMIT_S)[0]:
        return "silence"
    return str(os.eventfd_read(fd))


class Guest:
    """The process; it connects when it is first asked something."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.irqfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.memory: mmap.mmap | None = None

    def connected(self) -> Client:
        if self.client is None:
            self.client = Client(Path(os.environ["EVTCHND_SOCKET"]))
        return self.client

    def attach(self, path: str) -> str:
        # As its owner, by an open file that nobody else is handed.
        self.lock = open(path, "rb")  # noqa: SIM115 (held until the end)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
            reply = self.connected().call(
                Type.ATTACH,
                [file.fileno(), self.irqfd],
                value=(abi.EMU_PENDING_GPA, 0),
            )
        return f"error={reply.error}"

    def call(self, kind: str, *fields: str) -> str:
        numbers: dict[str, Any] = {
            name: int(value)
            for name, _, value in (field.partition("=") for field in fields)
        }
        reply = self.connected().call(Type[kind], **numbers)
        return (
            f"error={reply.error} port={reply.port} fds={reply.fds} "
            f"dom={reply.dom} status={reply.status}"
        )

    def ring(self) -> str:
        os.eventfd_write(self.connected().fds[1], 1)
        return "rung"

    def hears(self) -> str:
        return heard(self.connected().fds[0])

    def pending(self, port: str) -> str:
        assert self.memory is not None
        page = abi.view("emu_pending", self.memory, abi.EMU_PENDING_GPA)
        word, bit = divmod(int(port), 64)
        is_selected = page.selector >> word & 1
        return str(int(page.bits[word] >> bit & 1 and is_selected))

    def irq(self) -> str:
        return heard(self.irqfd)


def main() -> None:
    """Answer each line with one."""
    guest = Guest()
    for line in sys.stdin:
        verb, *words = line.split()
        print(getattr(guest, verb)(*words), flush=True)


if __name__ == "__main__":
    main()
