# SPDX-License-Identifier: GPL-2.0-or-later
"""block-attach, block-detach, network-attach, network-detach: devices of a
guest that runs, plugged in and out as libxl does (libxl_device.c)."""

from __future__ import annotations

import os
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from xenner.errors import ConfigError, HostError
from xenner.paths import Paths
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xldisk import parse_disk, vdev_number
from xenner.xlvif import parse_vif
from xennerd.ctl.command import Add, Command, add_domain
from xennerd.ctl.domains import Domain, find_domain
from xennerd.domain.hotplug import record_hotplug
from xennerd.nodes.device import (
    backend_path,
    device_paths,
    disk_nodes,
    vif_nodes,
)
from xennerd.nodes.guest import Node
from xennerd.nodes.writing import in_transaction, replace_nodes

# libxl's LIBXL_HOTPLUG_TIMEOUT and LIBXL_DESTROY_TIMEOUT are 40 s and 10 s.
_ATTACH_LIMIT_S = 40.0
_DETACH_LIMIT_S = 10.0
_PAUSE_S = 0.02
_NOT_CHOSEN = -1
_READY = (XenbusState.INIT_WAIT, XenbusState.CONNECTED)


class _Device:
    """A guest's device, through one connection to xenstore."""

    def __init__(
        self, store: Xenstore, kind: str, domid: Domid, devid: int
    ) -> None:
        self._store = store
        self._kind = kind
        self._domid = domid
        self.devid = devid
        # The toolstack's own nodes: a frontend may write anything into its.
        self._own = f"/libxl/{domid}/device/{kind}/{devid}"
        self._name = f"{kind} {devid} of domain {domid}"

    def _read(self, path: str) -> str:
        return self._store.find(path) or ""

    @property
    def exists(self) -> bool:
        return bool(self._read(f"{self._own}/backend"))

    def _backend_node(self, name: str) -> str:
        return self._read(f"{self._read(f'{self._own}/backend')}/{name}")

    @property
    def mac(self) -> str:
        """Of an interface; "" for what has none."""
        return self._read(f"{self._own}/mac")

    def attach(self, nodes: Iterable[Node]) -> None:
        """Write the nodes and wait until a backend offers the device.
        HostError: none does, or it has said why not; nothing stays."""
        if self.exists:
            raise HostError(f"{self._name} is there already")
        replace_nodes(self._store, (), nodes)
        try:
            self._wait_offer()
        except HostError:
            self._remove()
            raise

    def _wait_offer(self) -> None:
        end = time.monotonic() + _ATTACH_LIMIT_S
        while parse_state(self._backend_node("state")) not in _READY:
            if self._backend_node("hotplug-status") == "error":
                said = self._backend_node("hotplug-error")
                raise HostError(f"{self._name}: {said}")
            if time.monotonic() > end:
                raise HostError(
                    f"{self._name}: no backend has answered",
                    "do its daemons run? systemctl status blkbackd netbackd",
                )
            time.sleep(_PAUSE_S)

    def detach(self, *, is_forced: bool) -> None:
        """Have the guest let go of it, and remove the nodes. HostError: it
        does not let go, which `is_forced` overrides."""
        if not self.exists:
            raise HostError(f"{self._name}: no such device")
        backend = self._read(f"{self._own}/backend")
        in_transaction(self._store, partial(self._ask_back, backend))
        end = time.monotonic() + _DETACH_LIMIT_S
        while parse_state(self._backend_node("state")) not in (
            XenbusState.CLOSED,
            XenbusState.UNKNOWN,
        ):
            if time.monotonic() > end:
                if is_forced:
                    break
                raise HostError(
                    f"{self._name}: the guest does not let go of it",
                    "is it in use? --force takes it away",
                )
            time.sleep(_PAUSE_S)
        self._remove()

    def _ask_back(self, backend: str, tx: int) -> None:
        closing = str(int(XenbusState.CLOSING))
        self._store.write(f"{backend}/online", "0", tx=tx)
        self._store.write(f"{backend}/state", closing, tx=tx)

    def _remove(self) -> None:
        backend = self._read(f"{self._own}/backend")
        paths = device_paths(self._kind, self._domid, self.devid)
        replace_nodes(self._store, [*paths, backend], ())


def warn_of_vif(store: Xenstore, domid: Domid, devid: int) -> None:
    """Print what a connected device still waits for: its bridge."""
    path = backend_path("vif", domid, devid)
    if why := store.find(f"{path}/hotplug-error"):
        print(f"warning: vif {devid}: {why}", file=sys.stderr)


@contextmanager
def _xenstore() -> Iterator[Xenstore]:
    try:
        with Xenstore(Paths.of(os.environ).xenstore) as store:
            yield store
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error


def _find(word: str) -> Domain:
    domain = find_domain(Paths.of(os.environ), word)
    if domain.end:
        raise HostError(f"{domain.name} has ended: {domain.end}")
    return domain


def _remember(domain: Domain, kind: str, devid: int, spec: str = "") -> None:
    record_hotplug(
        Paths.of(os.environ).runtime_dir, domain.domid, kind, devid, spec
    )


def _declare_block_attach(add: Add) -> None:
    add_domain(add)
    add("spec", nargs="+", metavar="disk-spec-component")


def _block_attach(arguments: Namespace) -> int:
    spec = ",".join(arguments.spec)
    try:
        disk = parse_disk(spec)
    except ValueError as error:
        raise ConfigError(f"block-attach: {error}") from None
    domain = _find(arguments.domain)
    with _xenstore() as store:
        device = _Device(store, "vbd", domain.domid, disk.devid)
        device.attach(disk_nodes(domain.domid, disk))
    _remember(domain, "vbd", disk.devid, spec)
    return 0


def _declare_network_attach(add: Add) -> None:
    add_domain(add)
    add("spec", nargs="*", metavar="key=value", help="mac=..., bridge=...")


def _network_attach(arguments: Namespace) -> int:
    text = ",".join(arguments.spec)
    try:
        vif = parse_vif(text, devid=_NOT_CHOSEN)
    except ValueError as error:
        raise ConfigError(f"network-attach: {error}") from None
    domain = _find(arguments.domain)
    with _xenstore() as store:
        if vif.devid == _NOT_CHOSEN:
            taken = _devids(store, domain, "vif")
            free = next(n for n in range(len(taken) + 1) if n not in taken)
            vif = replace(vif, devid=free)
        handle = _handle(domain)
        nodes = vif_nodes(domain.domid, vif, handle=handle)
        _Device(store, "vif", domain.domid, vif.devid).attach(nodes)
        warn_of_vif(store, domain.domid, vif.devid)
    _remember(domain, "vif", vif.devid, text or "type=vif")
    return 0


def _handle(domain: Domain) -> uuid.UUID:
    if not domain.handle:
        raise HostError(f"{domain.name}: its monitor does not answer")
    return uuid.UUID(domain.handle)


def _devids(store: Xenstore, domain: Domain, kind: str) -> set[int]:
    names = store.directory(f"/libxl/{domain.domid}/device/{kind}")
    return set(map(int, names))


def _declare_detach(add: Add, device: str) -> None:
    add("-f", "--force", action="store_true", help="whatever the guest does")
    add_domain(add)
    add("device", metavar=device)


def _block_detach(arguments: Namespace) -> int:
    try:
        devid = vdev_number(arguments.device)
    except ValueError as error:
        raise ConfigError(f"block-detach: {error}") from None
    domain = _find(arguments.domain)
    with _xenstore() as store:
        device = _Device(store, "vbd", domain.domid, devid)
        device.detach(is_forced=arguments.force)
    _remember(domain, "vbd", devid)
    return 0


def _network_detach(arguments: Namespace) -> int:
    domain = _find(arguments.domain)
    with _xenstore() as store:
        device = _find_vif(store, domain, arguments.device)
        device.detach(is_forced=arguments.force)
    _remember(domain, "vif", device.devid)
    return 0


def _find_vif(store: Xenstore, domain: Domain, word: str) -> _Device:
    """By number or by its address."""
    for devid in sorted(_devids(store, domain, "vif")):
        device = _Device(store, "vif", domain.domid, devid)
        if word in (str(devid), device.mac):
            return device
    raise HostError(f"{domain.name} has no interface {word}")


COMMANDS = {
    "block-attach": Command(
        _block_attach,
        _declare_block_attach,
        "Create a new virtual block device",
    ),
    "block-detach": Command(
        _block_detach,
        partial(_declare_detach, device="DevId"),
        "Destroy a domain's virtual block device",
    ),
    "network-attach": Command(
        _network_attach,
        _declare_network_attach,
        "Create a new virtual network device",
    ),
    "network-detach": Command(
        _network_detach,
        partial(_declare_detach, device="DevId|mac"),
        "Destroy a domain's virtual network device",
    ),
}
