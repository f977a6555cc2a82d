# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine on a host that has no thread for it."""

import errno
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from blkbackd import engine
from blkbackd.engine import ABIS, Engine, Ring
from blkbackd.volume import open_volume
from xenner.types import Domid, GrantRef, Port


def test_no_thread_is_the_hosts_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asked: list[str] = []

    def attach(*_: object) -> int:
        asked.append("attach")
        return 0

    library = SimpleNamespace(
        blk_new=object,
        blk_attach=attach,
        blk_quiesce=lambda _: asked.append("quiesce"),
        blk_kick=lambda _: asked.append("kick"),
        blk_free=lambda _: asked.append("free"),
    )
    monkeypatch.setattr(engine, "lib", library)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    volume = open_volume(path, is_read_only=True)
    ring = Ring(Domid(7), Port(3), ABIS[None], (GrantRef(8),))
    served = Engine(lambda _trouble: None)
    with pytest.raises(OSError, match="temporarily") as caught:
        served.attach(ring, volume)
    assert caught.value.errno == errno.EAGAIN
    served.close()
    assert asked == ["attach", "quiesce", "free"]
    volume.close()
