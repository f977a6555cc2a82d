# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking the monitor of a running guest."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.environments.rules import limit_s


@contextmanager
def qmp(path: Path) -> Iterator[Callable[[str], dict[str, dict[str, object]]]]:
    """One command after the other, each answered with its reply; events
    between are passed over."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(limit_s(20))
        client.connect(str(path))
        lines = client.makefile("r")

        def ask(command: str) -> dict[str, dict[str, object]]:
            client.sendall(json.dumps({"execute": command}).encode() + b"\n")
            while True:
                answer: dict[str, dict[str, object]] = json.loads(
                    lines.readline()
                )
                if "event" not in answer:
                    return answer

        assert "QMP" in json.loads(lines.readline())
        ask("qmp_capabilities")
        yield ask
        lines.close()
