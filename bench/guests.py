# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that only talks to the outside (tests/guests/outside.c)."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import AbsentError
from tests.guests.build import build, guest_path

TOP = Path(__file__).resolve().parent.parent
DOMID = 1
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class OutsideGuest:
    """It runs; its console is the process's standard output."""

    process: subprocess.Popen[bytes]
    monitor: Path

    def wait_line(self, word: str) -> list[str]:
        """The words of its next line on the console that begins like that."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.decode(errors="replace").split()
            if words and words[0] == word:
                return words
        raise AbsentError(f"the guest ended without a line {word!r}")

    def statistics(self) -> dict[str, Any]:
        """Counters of the VM and of emu, as of now."""
        return statistics_of(self.monitor)


def statistics_of(monitor: Path) -> dict[str, Any]:
    """What a guest's monitor says of it, as of now."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_LIMIT_S)
        client.connect(str(monitor))
        with client.makefile("rw") as stream:
            json.loads(stream.readline())
            answer: dict[str, Any] = {}
            for command in ("qmp_capabilities", "x-xenner-statistics"):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    pass
    statistics: dict[str, Any] = answer["return"]
    return statistics


@contextmanager
def running_guest(
    runtime_dir: Path, append: str, *options: str | Path
) -> Iterator[OutsideGuest]:
    """Boot it with an evtchnd whose socket is in `runtime_dir`."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    build(["outside"])
    monitor = runtime_dir / "monitor"
    command = [
        *(sys.executable, "-m", "xennerd.standalone"),
        *("-kernel", guest_path("outside", "high"), "-m", "32"),
        *("-append", append, "-domid", str(DOMID), "-no-reboot"),
        *("-runtime-dir", runtime_dir, "-monitor", f"unix:{monitor}"),
        *("-evtchnd", runtime_dir / "evtchnd.socket", *options),
    ]
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        try:
            yield OutsideGuest(process, monitor)
        finally:
            process.kill()
            for left in runtime_dir.glob("vmcore.*"):
                left.unlink()
