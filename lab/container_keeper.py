# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts the lab container, outlives it and cleans up after it.

    unshare --pid python container_keeper.py CGROUP COMMAND...

It is a process of its own so that nothing stays even if the lab is killed.
It makes the cgroup CGROUP and starts COMMAND as PID 1 of the new namespace,
with the path of a socket for sd_notify(3) as the last argument. When READY=1
arrives there, PID 1's number is printed. When standard input ends, or PID 1,
everything in the namespace is killed and the cgroup is removed.
"""

import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and those below it; no process may be in them."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(directory)


def wait_ready(notify: socket.socket, *ends: int) -> bool:
    """True when READY=1 has come, False when one of the descriptors `ends` is
    readable."""
    while True:
        readable, _, _ = select.select([notify.fileno(), *ends], [], [])
        if notify.fileno() not in readable:
            return False
        if b"READY=1" in notify.recv(4096).split(b"\n"):
            return True


def keep(cgroup: Path, command: list[str]) -> int:
    """As above; the status of PID 1, negative if a signal has ended it."""
    # As the first child it is PID 1, and seen as an ordinary child from here:
    # its end is reported when all others in the namespace have ended.
    with (
        tempfile.TemporaryDirectory(prefix="xenner-lab-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        path = f"{directory}/notify"
        notify.bind(path)
        init = subprocess.Popen(
            [*command, path], stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        lab, ended = sys.stdin.fileno(), os.pidfd_open(init.pid)
        is_ready = wait_ready(notify, lab, ended)
    if is_ready:
        print(init.pid, flush=True)
        select.select([lab, ended], [], [])
    init.kill()
    return init.wait()


def main() -> None:
    cgroup = Path(sys.argv[1])
    cgroup.mkdir()
    try:
        keep(cgroup, sys.argv[2:])
    finally:
        remove_cgroup(cgroup)


if __name__ == "__main__":
    main()
