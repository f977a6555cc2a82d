# SPDX-License-Identifier: GPL-2.0-or-later
"""Removing one stale thing, each so that a living one survives a mistake."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.cleanup.leftovers import Kind, Thing
from xennerd.cleanup.scan import Host, is_dead_socket, tap_holders

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TAP_FLAGS = 0x0002 | 0x1000 | 0x4000 | 0x0100
_IFREQ = struct.Struct("16sH22x")


def remove(thing: Thing, host: Host) -> None:
    """OSError or HostError: it is still there, and why. What is gone already
    is as good as removed. For a domain's things its number must be held."""
    match thing.kind:
        case Kind.XENSTORE:
            _remove_node(thing, host)
        case Kind.TAP:
            _remove_tap(thing.name, host)
        case Kind.CGROUP:
            _remove_cgroup(Path(thing.name))
        case Kind.SOCKET:
            _remove_socket(Path(thing.name))
        case Kind.LINK | Kind.RECORD | Kind.VMCORE:
            Path(thing.name).unlink(missing_ok=True)


def _remove_node(thing: Thing, host: Host) -> None:
    try:
        with Xenstore(host.paths.xenstore) as store:
            if thing.name == f"/local/domain/{thing.domid}":
                # Not known to every store, nor introduced in every case.
                with suppress(XenstoreError):
                    store.release(Domid(thing.domid or 0))
            store.remove(thing.name)
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
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
        fcntl.ioctl(fd, _TUNSETPERSIST, 0)
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
    """Taken aside, looked at once more, and put back if somebody has come."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if is_dead_socket(aside):
        aside.unlink()
        return
    try:
        # Not over another one that has been made since.
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    raise OSError(errno.EBUSY, "somebody listens on it now")
