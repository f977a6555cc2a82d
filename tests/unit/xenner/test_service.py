# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service manager hears, if there is one."""

import socket
from pathlib import Path

import pytest

from xenner.service import notify


def test_it_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify("READY=1", "STATUS=runs")
        assert manager.recv(100) == b"READY=1\nSTATUS=runs"
        assert notify("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"
    # Nobody listens, then nobody is there.
    assert not notify("READY=1")
    path.unlink()
    assert not notify("READY=1")


def test_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        else:
            monkeypatch.setenv("NOTIFY_SOCKET", value)
        assert not notify("READY=1")
