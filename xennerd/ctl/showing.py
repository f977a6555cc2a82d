# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that look: list, domid, domname, info, uptime, vcpu-list,
block-list, network-list."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from xenner.errors import ConfigError, HostError
from xenner.paths import Paths
from xenner.types import Domid
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xlcfg import DomainConfig
from xennerd.ctl import formats
from xennerd.ctl.command import DOMAIN, Add, Command, add_json
from xennerd.ctl.domains import (
    Domain,
    dom0,
    find_domain,
    free_mib,
    list_domains,
    memory_mib,
    named,
)
from xennerd.domain.file import config_of_record
from xennerd.domain.hotplug import with_hotplug
from xennerd.domain.records import read_record
from xennerd.nodes.device import device_paths

# What our guests are told, and what cluster managers compare.
_XEN = (4, 17, ".0")


def _paths() -> Paths:
    return Paths.of(os.environ)


def _chosen(words: Sequence[str]) -> list[Domain]:
    """The named domains; without names all, domain 0 first."""
    everybody = _everybody()
    return [named(word, everybody) for word in words] or everybody


def _everybody() -> list[Domain]:
    guests = list_domains(_paths())
    return [dom0(guests), *guests]


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0


def _print_json(value: object) -> int:
    print(json.dumps(value, indent=4))
    return 0


def _add_domains(add: Add, nr: str = "*") -> None:
    """Words that name domains, so many."""
    add(DOMAIN, nargs=nr, metavar="Domain")


def _declare_list(add: Add) -> None:
    for short, long, what in (
        ("-l", "--long", "all that is known, as JSON"),
        ("-v", "--verbose", "with UUIDs"),
        ("-Z", "--context", "with security labels"),
        ("-c", "--cpupool", "with the CPU pool"),
        ("-n", "--numa", "with NUMA nodes"),
    ):
        add(short, long, action="store_true", help=what)
    add_json(add)
    _add_domains(add, "?")


def _list(arguments: Namespace) -> int:
    chosen = _chosen([arguments.domain] if arguments.domain else [])
    for domain in chosen:
        if domain.is_silent:
            print(
                f"warning: {domain.name}: its process, {domain.pid}, does not "
                "answer; xennerctl destroy kills it",
                file=sys.stderr,
            )
    if arguments.long:
        configs = dict(_configs(domain.domid for domain in chosen))
        return _print_json(formats.long_list(chosen, configs))
    if arguments.json:
        return _print_json(
            [{**asdict(domain), "state": domain.state} for domain in chosen]
        )
    columns = formats.Columns(
        is_verbose=arguments.verbose,
        has_context=arguments.context,
        has_pool=arguments.cpupool,
        has_node=arguments.numa,
    )
    return _print(formats.list_lines(chosen, columns))


def _configs(domids: Iterable[Domid]) -> Iterator[tuple[Domid, DomainConfig]]:
    """Of those that were started from a file, as that was then, with what was
    plugged in or out."""
    for domid in domids:
        record = read_record(_paths().runtime_dir, domid)
        if record is not None:
            with suppress(ConfigError):
                config = config_of_record(record)
                yield domid, with_hotplug(config, record.plugged)


def _domid(arguments: Namespace) -> int:
    word: str = arguments.domain
    for domain in _everybody():
        if domain.name == word:
            print(domain.domid)
            return 0
    # xl's words, here and below, for programs that look for them.
    print(
        f"Can't get domid of domain name '{word}', "
        "maybe this domain does not exist.",
        file=sys.stderr,
    )
    return 1


def _domname(arguments: Namespace) -> int:
    word: str = arguments.domain
    if not (word.isascii() and word.isdigit()):
        print("Invalid domain id.", file=sys.stderr)
        return 1
    for domain in _everybody():
        if domain.domid == int(word):
            print(domain.name)
            return 0
    print(
        f"Can't get domain name of domain id '{word}', "
        "maybe this domain does not exist.",
        file=sys.stderr,
    )
    return 1


def _declare_uptime(add: Add) -> None:
    add("-s", dest="is_short", action="store_true", help="as uptime(1)")
    add_json(add)
    _add_domains(add)


def _uptime(arguments: Namespace) -> int:
    chosen = _chosen(arguments.domain)
    if arguments.json:
        return _print_json({d.name: d.uptime_s for d in chosen})
    if arguments.is_short:
        now = time.strftime("%H:%M:%S")
        return _print(formats.short_uptime_lines(chosen, now))
    return _print(formats.uptime_lines(chosen))


def _declare_vcpu_list(add: Add) -> None:
    add_json(add)
    _add_domains(add)


def _vcpu_list(arguments: Namespace) -> int:
    chosen = _chosen(arguments.domain)
    if arguments.json:
        return _print_json(
            {d.name: [asdict(vcpu) for vcpu in d.vcpus] for d in chosen}
        )
    return _print(formats.vcpu_lines(chosen))


def _declare_info(add: Add) -> None:
    add("-n", "--numa", action="store_true", help="with NUMA nodes")
    add_json(add)


def _info(arguments: Namespace) -> int:
    facts = host_facts(list_domains(_paths()))
    if arguments.json:
        return _print_json(facts)
    _print(formats.info_lines(facts))
    return _print(formats.numa_lines(_nodes())) if arguments.numa else 0


def _nodes() -> Iterator[formats.Node]:
    """Of /sys/devices/system/node, in their order."""
    top = Path("/sys/devices/system/node")
    numbers = [int(path.name[4:]) for path in top.glob("node[0-9]*")]
    for number in sorted(numbers):
        path = top / f"node{number}"
        text = (path / "meminfo").read_text().replace(f"Node {number} ", "")
        distances = (path / "distance").read_text().split()
        yield formats.Node(
            number,
            memory_mib(text, "MemTotal"),
            memory_mib(text, "MemFree"),
            tuple(map(int, distances)),
        )


def host_facts(domains: Sequence[Domain]) -> dict[str, object]:
    """What `info` says of this host with its guests. Memory is in MiB."""
    meminfo = Path("/proc/meminfo").read_text()
    cpuinfo = Path("/proc/cpuinfo").read_text()
    nr_cpus = os.cpu_count() or 1
    siblings = _cpu_number(cpuinfo, "siblings", nr_cpus)
    cores = _cpu_number(cpuinfo, "cpu cores", siblings)
    nodes = list(Path("/sys/devices/system/node").glob("node[0-9]*"))
    major, minor, extra = _XEN
    return {
        "host": platform.node(),
        "release": platform.release(),
        "version": platform.version(),
        "machine": platform.machine(),
        "nr_cpus": nr_cpus,
        "max_cpu_id": nr_cpus - 1,
        "nr_nodes": max(1, len(nodes)),
        "cores_per_socket": cores,
        "threads_per_core": max(1, siblings // cores),
        "cpu_mhz": f"{_cpu_number(cpuinfo, 'cpu MHz', 0):.3f}",
        "virt_caps": "pv",
        "total_memory": memory_mib(meminfo, "MemTotal"),
        "free_memory": free_mib(meminfo, domains),
        "sharing_freed_memory": 0,
        "sharing_used_memory": 0,
        "outstanding_claims": 0,
        "free_cpus": 0,
        "xen_major": major,
        "xen_minor": minor,
        "xen_extra": extra,
        "xen_version": f"{major}.{minor}{extra}",
        "xen_caps": "xen-3.0-x86_64",
        "xen_scheduler": "linux",
        "xen_pagesize": 4096,
        "xend_config_format": 4,
    }


def _cpu_number(text: str, key: str, default: int) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return max(1, int(float(value)))
    return default


def devices(paths: Paths, domid: Domid, kind: str) -> list[dict[str, str]]:
    """A guest's devices of a kind, vbd or vif: the nodes that are known, with
    `devid`, `domid` and `backend`."""
    try:
        with Xenstore(paths.xenstore) as store:
            # The toolstack's own nodes: a guest may write anything into its.
            names = store.directory(f"/libxl/{domid}/device/{kind}")
            found = [
                dict(_device(store, domid, kind, devid))
                for devid in sorted(map(int, names))
            ]
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error
    # One may have gone while we looked.
    return [device for device in found if device["backend"]]


def _device(
    store: Xenstore, domid: Domid, kind: str, devid: int
) -> Iterator[tuple[str, str]]:
    yield "devid", str(devid)
    yield "domid", str(domid)
    front, _back, own = device_paths(kind, domid, devid)
    yield "backend", store.find(f"{own}/backend") or ""
    for node in ("mac", "handle"):
        if value := store.find(f"{own}/{node}"):
            yield node, value
    for node in (
        *("state", "event-channel", "ring-ref"),
        *("tx-ring-ref", "rx-ring-ref"),
    ):
        if value := _guests_number(store, f"{front}/{node}"):
            yield node, value


def _guests_number(store: Xenstore, path: str) -> str:
    """What a guest has written there, if it is a number; it goes to a
    terminal."""
    value = store.find(path) or ""
    return value if re.fullmatch(r"[0-9]{1,10}", value) else ""


def _declare_device_list(add: Add) -> None:
    add_json(add)
    _add_domains(add, "+")


def _device_list(arguments: Namespace, kind: str) -> int:
    paths = _paths()
    found = [
        device
        for word in arguments.domain
        for device in devices(paths, find_domain(paths, word).domid, kind)
    ]
    if arguments.json:
        return _print_json(found)
    show = formats.block_lines if kind == "vbd" else formats.network_lines
    return _print(show(found))


COMMANDS = {
    "list": Command(
        _list, _declare_list, "List information about all/some domains"
    ),
    "domid": Command(
        _domid,
        lambda add: add(DOMAIN, metavar="DomainName"),
        "Convert a domain name to domain id",
    ),
    "domname": Command(
        _domname,
        lambda add: add(DOMAIN, metavar="DomainId"),
        "Convert a domain id to domain name",
    ),
    "info": Command(_info, _declare_info, "Get information about the host"),
    "uptime": Command(_uptime, _declare_uptime, "Print uptime for domains"),
    "vcpu-list": Command(
        _vcpu_list,
        _declare_vcpu_list,
        "List the VCPUs for all/some domains",
    ),
    "block-list": Command(
        partial(_device_list, kind="vbd"),
        _declare_device_list,
        "List virtual block devices for a domain",
    ),
    "network-list": Command(
        partial(_device_list, kind="vif"),
        _declare_device_list,
        "List virtual network interfaces for a domain",
    ),
}
