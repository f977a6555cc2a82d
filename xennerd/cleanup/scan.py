# SPDX-License-Identifier: GPL-2.0-or-later
"""Find everything on this host that belongs to a domain."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import Paths, record_path
from xenner.types import Domid
from xenner.vmcorelocks import is_preserved
from xenner.vmcores import list_domids
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.cleanup.classify import (
    Kind,
    Leftover,
    domid_of_cgroup,
    domid_of_link,
    domid_of_node,
    domid_of_tap,
)
from xennerd.domain.records import list_records

_BACKENDS = "/local/domain/0/backend"


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look. `cgroups` None: wherever cgroup v2 is mounted."""

    paths: Paths
    cgroups: Path | None = None
    networks: Path = Path("/sys/class/net")
    hypervisor: Path = Path("/sys/hypervisor/type")


def scan_host(host: Host) -> tuple[list[Leftover], list[str]]:
    """All leftovers, in use or not; and notes on what could not be scanned."""
    leftovers = [
        *(*_vmcores(host), *_records(host)),
        *(*_links_and_sockets(host), *_cgroups(host)),
    ]
    notes = []
    if _is_xen(host):
        notes.append("this host runs Xen: its xenstore and vifs are not ours")
    else:
        leftovers += _taps(host)
        try:
            leftovers += _nodes(host)
        except (OSError, HostError, XenstoreError) as error:
            notes.append(f"no look at xenstore: {error}")
    return leftovers, notes


def _is_xen(host: Host) -> bool:
    with suppress(OSError):
        return host.hypervisor.read_text().strip() == "xen"
    return False


def _vmcores(host: Host) -> Iterator[Leftover]:
    for domid in list_domids(host.paths.runtime_dir):
        path = host.paths.vmcore(domid)
        with suppress(FileNotFoundError):
            status = path.lstat()
            yield Leftover(
                Kind.VMCORE,
                domid,
                str(path),
                size_bytes=status.st_blocks * 512,
                is_preserved=is_preserved(status),
            )


def _records(host: Host) -> Iterator[Leftover]:
    for record in list_records(host.paths.runtime_dir):
        yield Leftover(
            Kind.RECORD,
            record.domid,
            str(record_path(host.paths.runtime_dir, record.domid)),
            is_preserved=bool(record.end),
        )


def _links_and_sockets(host: Host) -> Iterator[Leftover]:
    """Links and sockets in the runtime directory, and the links' targets."""
    try:
        paths = sorted(host.paths.runtime_dir.iterdir())
    except OSError:
        return
    for path in paths:
        if path.is_symlink():
            domid = domid_of_link(path.name)
            if domid is not None:
                yield Leftover(Kind.LINK, domid, str(path))
                yield from _link_target(path, domid, host)
        elif path.is_socket():
            # A guest's monitor, or a daemon's.
            domid = domid_of_link(path.name)
            yield Leftover(
                Kind.SOCKET, domid, str(path), holder=_listener(path)
            )


def _link_target(link: Path, domid: Domid, host: Host) -> Iterator[Leftover]:
    """A monitor's socket outside the runtime directory."""
    with suppress(OSError):
        target = Path(os.readlink(link))
        if target.parent != host.paths.runtime_dir and target.is_socket():
            yield Leftover(
                Kind.SOCKET, domid, str(target), holder=_listener(target)
            )


def _listener(path: Path) -> str:
    """What serves a socket; empty: nothing."""
    if not is_dead_socket(path):
        return "a process that listens"
    # Bound but not listening yet: a daemon that is starting.
    with suppress(OSError):
        for line in Path("/proc/net/unix").read_text().splitlines():
            words = line.split(maxsplit=7)
            if len(words) == 8 and os.path.basename(words[7]) == path.name:
                return "a process that is starting"
    return ""


def is_dead_socket(path: Path) -> bool:
    """Is a connection refused? Any other error is no proof."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


# --- cgroups ------------------------------------------------------------------


def _cgroups(host: Host) -> Iterator[Leftover]:
    root = host.cgroups or _cgroup_mount()
    if root is None:
        return
    # systemd's own, and one level of slices below it.
    for depth in ("*", "*/*", "*/*/*"):
        for path in sorted(root.glob(depth)):
            domid = domid_of_cgroup(path.name)
            if domid is not None and path.is_dir():
                yield Leftover(
                    Kind.CGROUP, domid, str(path), holder=_populated(path)
                )


def _cgroup_mount() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, mount_point, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(mount_point)
    return None


def _populated(path: Path) -> str:
    """Processes in a cgroup or below it (cgroups(7), cgroup.events)."""
    with suppress(OSError):
        events = (path / "cgroup.events").read_text()
        return "processes" if re.search(r"^populated 1$", events, re.M) else ""
    return ""


# --- taps ---------------------------------------------------------------------


def _taps(host: Host) -> Iterator[Leftover]:
    if not host.networks.is_dir():
        return
    holders: dict[str, str] | None = None
    for path in sorted(host.networks.iterdir()):
        if not (path / "tun_flags").exists():
            continue
        with suppress(OSError):
            alias = (path / "ifalias").read_text().strip()
            domid = domid_of_tap(path.name, alias)
            if domid is None:
                continue
            if holders is None:
                holders = tap_holders()
            yield Leftover(
                Kind.TAP, domid, path.name, holder=holders.get(path.name, "")
            )


def tap_holders() -> dict[str, str]:
    """Interface -> a process that has it open (proc_pid_fdinfo(5))."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) != "/dev/net/tun":
                continue
            process = link.parents[1]
            text = (process / "fdinfo" / link.name).read_text()
            if match := re.search(r"^iff:\s*(\S+)", text, re.M):
                command = (process / "comm").read_text().strip()
                found[match[1]] = f"{command} ({process.name})"
    return found


# --- xenstore -----------------------------------------------------------------


def _nodes(host: Host) -> Iterator[Leftover]:
    with Xenstore(host.paths.xenstore) as store:
        users: dict[str, list[Domid]] = {}
        for name in store.directory("/local/domain"):
            domid = domid_of_node(name)
            if domid is None:
                continue
            top = f"/local/domain/{domid}"
            yield Leftover(Kind.XENSTORE, domid, top)
            with suppress(XenstoreError):
                users.setdefault(store.read(f"{top}/vm"), []).append(domid)
        for vm, domids in users.items():
            # Not a node that a restarted domain uses too.
            if re.fullmatch(r"/vm/[0-9a-fA-F-]{36}", vm) and len(domids) == 1:
                yield Leftover(Kind.XENSTORE, domids[0], vm)
        yield from _numbered_nodes(store, "/libxl")
        for kind in store.directory(_BACKENDS):
            yield from _numbered_nodes(store, f"{_BACKENDS}/{kind}")


def _numbered_nodes(store: Xenstore, parent: str) -> Iterator[Leftover]:
    for name in store.directory(parent):
        domid = domid_of_node(name)
        if domid is not None:
            yield Leftover(Kind.XENSTORE, domid, f"{parent}/{name}")
