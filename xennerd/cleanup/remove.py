# SPDX-License-Identifier: GPL-2.0-or-later
"""Remove one leftover. Each way spares what is in use after all."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from xenner import abi
from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.cleanup.classify import Kind, Leftover
from xennerd.cleanup.scan import Host, is_dead_socket, tap_holders

_TAP_FLAGS = (
    abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR | abi.IFF_MULTI_QUEUE
)
_IFREQ = struct.Struct("16sH22x")


def remove(leftover: Leftover, host: Host) -> None:
    """Remove it; one that is gone already is fine. The caller holds the
    domain's number. OSError, HostError: it could not be removed."""
    match leftover.kind:
        case Kind.XENSTORE:
            _remove_node(leftover, host)
        case Kind.TAP:
            _remove_tap(leftover.name, host)
        case Kind.CGROUP:
            _remove_cgroup(Path(leftover.name))
        case Kind.SOCKET:
            _remove_socket(Path(leftover.name))
        case Kind.LINK | Kind.RECORD | Kind.VMCORE:
            Path(leftover.name).unlink(missing_ok=True)


def _remove_node(leftover: Leftover, host: Host) -> None:
    try:
        with Xenstore(host.paths.xenstore) as store:
            if leftover.name == f"/local/domain/{leftover.domid}":
                # Not known to every store, nor introduced in every case.
                with suppress(XenstoreError):
                    store.release(Domid(leftover.domid or 0))
            store.remove(leftover.name)
    except XenstoreError as error:
        raise HostError(f"xenstore: {error}") from error


def _remove_tap(name: str, host: Host) -> None:
    """By opening it and taking its persistence away: the kernel removes it
    when its last descriptor is closed, which may be another's."""
    if holder := tap_holders().get(name):
        raise HostError(f"in use by {holder}")
    try:
        text = (host.networks / name / "tun_flags").read_text()
    except FileNotFoundError:
        return
    flags = int(text, 16) & _TAP_FLAGS
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, abi.TUNSETIFF, _IFREQ.pack(name.encode(), flags))
        fcntl.ioctl(fd, abi.TUNSETPERSIST, 0)
    finally:
        os.close(fd)


def _remove_cgroup(path: Path) -> None:
    """The kernel refuses for one that has processes; below it first."""
    if not path.is_dir():
        return
    for child in path.iterdir():
        if child.is_dir():
            _remove_cgroup(child)
    with suppress(FileNotFoundError):
        path.rmdir()


def _remove_socket(path: Path) -> None:
    """Rename it, check once more that nobody listens, rename it back if so."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if is_dead_socket(aside):
        aside.unlink()
        return
    try:
        # Without replacing a socket that was created meanwhile.
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    raise OSError(errno.EBUSY, "somebody listens on it now")
