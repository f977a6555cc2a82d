# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames as tcpdump sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.net.namespace import Namespace


@contextmanager
def capturing(
    net: Namespace, interface: str, trace: Path, *expression: str
) -> Iterator[None]:
    """Write what passes an interface into a file; it listens already."""
    with subprocess.Popen(
        net.command(
            *("tcpdump", "-Z", "root", "-U", "-i", interface, "-s", "0"),
            *("-w", str(trace), *expression),
        ),
        stderr=subprocess.PIPE,
    ) as dump:
        assert dump.stderr is not None
        dump.stderr.readline()
        try:
            yield
        finally:
            dump.terminate()


def read_capture(trace: Path, expression: str, *, form: str = "-vv") -> str:
    """Frames of a file, with what tcpdump thinks of their checksums; `form`
    as its options."""
    return subprocess.run(
        ["tcpdump", "-nn", form, "-r", str(trace), expression],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
