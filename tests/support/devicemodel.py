# SPDX-License-Identifier: GPL-2.0-or-later
"""What a device model needs beside it: a store, and a program for QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest


class FakeStore:
    """As much of libxenstore.Store as is read; `nodes` are absolute."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def children(self, path: str) -> list[str]:
        below = f"{path}/"
        names = [n[len(below) :] for n in self.nodes if n.startswith(below)]
        return [name.partition("/")[0] for name in names]


def install_program(directory: Path, patch: pytest.MonkeyPatch) -> Path:
    """For a QEMU, one that does nothing but say its number in `pid`."""
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\necho $$ > {directory}/pid\nexec sleep 1000\n")
    path.chmod(0o755)
    patch.setenv("XENNER_QDISK", str(path))
    patch.setenv("XENNER_RUNTIME_DIR", str(directory))
    return path
