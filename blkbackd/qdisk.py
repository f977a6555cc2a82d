# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks in QEMU's formats, below backend/qdisk: the domain's device model
serves them. We start it, and keep others from their images. Calls block."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from blkbackd.config import may_share, may_write
from blkbackd.image_lock import lock_image
from xenner.backend.lines import DeviceLog, reason_of
from xenner.backend.status import Value
from xenner.devicemodel import DeviceModels
from xenner.errors import HostError
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state

_log = logging.getLogger("blkbackd")


class Qdisk:
    """backend/qdisk/<domid>/<devid>: its process makes all of its life."""

    def __init__(
        self,
        models: DeviceModels,
        store: Store,
        path: str,
        domid: Domid,
        _wake: Callable[[], None],
    ) -> None:
        self._models = models
        self._store = store
        self._path = path
        self._domid = domid
        self._is_held = False
        # What is claimed, and the descriptor that does it.
        self._image = ""
        self._image_fd = -1

    def step(self) -> bool:
        """False: the disk is no more."""
        # Not its state: QEMU may write that once more when all has gone.
        if self._store.read(f"{self._path}/frontend") is None:
            self._models.release(self._domid, self._path)
            self._models.wait_ended(self._domid)
            self.close()
            return False
        # The toolstack's last node is the state: the others are there. What
        # begins may have been there before, and gone without our seeing it.
        state = self._store.read(f"{self._path}/state")
        is_new = parse_state(state) is XenbusState.INITIALISING
        if is_new or (
            state is not None and not self._is_held and not self._was_refused()
        ):
            self._is_held = True
            try:
                self._claim_image(is_new=is_new)
                self._models.hold(self._domid, self._path)
            except HostError as error:
                refuse(self._store, self._path, str(error))
        return True

    def _was_refused(self) -> bool:
        """By a blkbackd before us, perhaps. QEMU would begin with it."""
        return self._store.read(f"{self._path}/hotplug-status") == "error"

    def _claim_image(self, *, is_new: bool) -> None:
        """Xen's QEMU locks nothing (hw/block/xen-block.c: a device that it
        emulates may have the same image). HostError: somebody has it."""
        params = self._store.read(f"{self._path}/params") or ""
        path = params.partition(":")[2]
        if path == self._image or not path.startswith("/"):
            return
        self.close()
        mode = self._store.read(f"{self._path}/mode") or ""
        try:
            self._image_fd = _open_claimed(Path(path), mode)
            self._image = path
        except BlockingIOError as error:
            # One that QEMU serves already is served on.
            if is_new:
                raise HostError(
                    f"{path} is in use", "another domain's, or QEMU's?"
                ) from error
            log = DeviceLog(_log, self._path, self._domid)
            log.warning("%s is somebody else's too", path)
        except OSError:
            pass  # QEMU finds that as well.

    def close(self) -> None:
        """Its process goes on."""
        if self._image:
            os.close(self._image_fd)
            self._image = ""

    def statistics(self) -> Mapping[str, Value]:
        """Those are QEMU's own."""
        return {}

    def host_changed(self) -> None:
        """Nothing that it waits for."""

    def try_again(self) -> None:
        """It does so by itself."""


def refuse(store: Store, path: str, text: str) -> None:
    """As vbds that are refused."""
    text = reason_of(text)
    domid = Domid(int(path.split("/")[2]))
    DeviceLog(_log, path, domid).error("%s", text)
    store.write(f"error/{path}", {"error": text})
    if store.write_existing(f"{path}/state", int(XenbusState.CLOSED)):
        store.write(path, {"hotplug-status": "error", "hotplug-error": text})


def _open_claimed(path: Path, mode: str) -> int:
    """BlockingIOError: somebody has it; OSError."""
    # A FIFO would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not may_share(mode):
            is_device = path.is_block_device()
            lock_image(
                fd, is_read_only=not may_write(mode), is_device=is_device
            )
    except OSError:
        os.close(fd)
        raise
    return fd
