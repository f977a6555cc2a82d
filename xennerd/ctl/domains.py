# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains of this host: which there are, and what each says of itself.

Nothing is kept: the lock on a vmcore says that it lives, the monitor how it is,
xenstore what it is called, and its record what of it stays when it is dead. So
nothing has to be found again after a restart.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenner.errors import HostError
from xenner.listening import listener_of
from xenner.paths import Paths
from xenner.types import Domid
from xenner.vmcorelocks import LockOwners, is_locked, is_preserved
from xenner.vmcores import list_domids
from xenner.xenstore import Xenstore, XenstoreError
from xennerd.domain.records import Record, read_record
from xennerd.nodes.guest import domain_path
from xennerd.qmp.client import QmpClient, QmpSilentError
from xennerd.vm.memory.layout import PAGE_BYTES, machine_layout

CRASHES = ("crash", "watchdog")
"""The ends that are none of the guest's own."""

WHO_MAY = "root and members of the group xenner"

# One that has its share of a processor, however small, answers in that time.
_ANSWER_LIMIT_S = 4.0
_STORE_LIMIT_S = 2.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NoDomainError(HostError):
    """No such domain; said as xl says it."""

    def __init__(self, word: str) -> None:
        # -6 is libxl's ERROR_INVAL, which programs look for.
        super().__init__(f"{word} is an invalid domain identifier (rc=-6)")


@dataclass(frozen=True, slots=True)
class Vcpu:
    """A virtual CPU: the host CPU it was on last, and its time."""

    number: int
    host_cpu: int
    is_running: bool
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain at one moment. Memory is what it has now, MiB. `end`: why a
    preserved domain ended; its CPU time is lost. `is_silent`: its process does
    not answer, so the values come from elsewhere."""

    domid: Domid
    name: str
    handle: str = ""
    memory_mib: int = 0
    max_memory_mib: int = 0
    is_paused: bool = False
    is_ending: bool = False
    is_silent: bool = False
    cpu_s: float = 0.0
    uptime_s: float = 0.0
    pid: int = 0
    vcpus: tuple[Vcpu, ...] = ()
    end: str = ""

    @property
    def state(self) -> str:
        """xl's six letters. A paused domain is neither running nor blocked; the
        letters are unknown if the process does not answer."""
        if self.end:
            return "---sc-" if self.end in CRASHES else "---s--"
        if self.is_ending:
            return "-----d"
        if self.is_paused:
            return "--p---"
        if self.is_silent:
            return "------"
        runs = any(vcpu.is_running for vcpu in self.vcpus)
        return "r-----" if runs else "-b----"


def list_domains(paths: Paths) -> list[Domain]:
    """The living domains and the dead that stay, in order; domain 0 is not
    among them."""
    with ExitStack() as stack:
        names, owners = _Names(paths, stack), LockOwners()
        return [
            domain
            for domid in list_domids(paths.runtime_dir)
            if (domain := _look(paths, domid, names, owners)) is not None
        ]


def find_domain(paths: Paths, word: str) -> Domain:
    """By number or by name. NoDomainError if there is none. Queries only that
    domain's process: another one may hang."""
    for domid in list_domids(paths.runtime_dir):
        if word == str(domid):
            with ExitStack() as stack:
                names = _Names(paths, stack)
                domain = _look(paths, domid, names, LockOwners())
            if domain is not None:
                return domain
    if (domain := find_named(paths, word)) is not None:
        return domain
    raise NoDomainError(word)


def find_named(paths: Paths, name: str) -> Domain | None:
    """The domain of this name. Queries also the processes of domains without a
    name in xenstore or a record."""
    with ExitStack() as stack:
        names, owners = _Names(paths, stack), LockOwners()
        known = {d: names.of(d) for d in list_domids(paths.runtime_dir)}
        for domid in sorted(known, key=lambda domid: known[domid] != name):
            if known[domid] in (name, ""):
                domain = _look(paths, domid, names, owners)
                if domain is not None and domain.name == name:
                    return domain
    return None


def named(word: str, domains: Sequence[Domain]) -> Domain:
    """The domain with that number, else the one with that name. NoDomainError
    if there is none."""
    for domain in domains:
        if word == str(domain.domid):
            return domain
    for domain in domains:
        if word == domain.name:
            return domain
    raise NoDomainError(word)


def _look(
    paths: Paths, domid: Domid, names: _Names, owners: LockOwners
) -> Domain | None:
    vmcore = paths.vmcore(domid)
    try:
        fd = os.open(vmcore, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(
            f"{vmcore}: {error.strerror}", f"for {WHO_MAY}"
        ) from None
    try:
        status = os.fstat(fd)
        if not is_locked(fd):
            return _look_at_dead(paths, domid, status)
    finally:
        os.close(fd)
    name = names.of(domid)
    path = paths.monitor(domid)
    # The file systems of some names are others in /proc/locks.
    pid = owners.of(status) or listener_of(path) or 0
    if pid and _is_stopped(pid):
        return _look_from_outside(paths, domid, name, pid)
    try:
        with QmpClient(path, limit_s=_ANSWER_LIMIT_S) as monitor:
            return _ask(domid, name, monitor, pid)
    except QmpSilentError:
        return _look_from_outside(paths, domid, name, pid)
    except HostError:
        # It has no monitor, or ends at this moment.
        is_ending = not path.exists()
        return Domain(domid, name or "(null)", is_ending=is_ending, pid=pid)


def _is_stopped(pid: int) -> bool:
    """By SIGSTOP, or in a debugger: it would not answer (proc_pid_stat(5))."""
    return _fields(Path(f"/proc/{pid}/stat"))[:1] in (["T"], ["t"])


def _look_from_outside(
    paths: Paths, domid: Domid, name: str, pid: int
) -> Domain:
    """A domain whose process does not answer: CPU time from the kernel, all
    else from its record."""
    record = read_record(paths.runtime_dir, domid)
    if record is None:
        return Domain(domid, name or "(null)", is_silent=True, pid=pid)
    vcpus = tuple(_threads(pid, record.nr_vcpus))
    return Domain(
        domid=domid,
        name=name or record.name,
        handle=record.handle,
        memory_mib=record.memory_mib,
        max_memory_mib=record.max_memory_mib or record.memory_mib,
        is_silent=True,
        cpu_s=sum(vcpu.cpu_s for vcpu in vcpus),
        uptime_s=_uptime_s(pid),
        pid=pid,
        vcpus=vcpus,
    )


def _threads(pid: int, nr_vcpus: int) -> Iterator[Vcpu]:
    """The vCPUs by their threads' names."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/comm"):
        with suppress(OSError):
            found[path.read_text().strip()] = path.with_name("stat")
    for number in range(nr_vcpus):
        stat = found.get(f"vcpu{number}")
        fields = _fields(stat) if stat else []
        yield Vcpu(
            number,
            host_cpu=int(fields[36]) if fields else 0,
            is_running=False,
            cpu_s=_cpu_s(stat) if stat else 0.0,
        )


def _look_at_dead(
    paths: Paths, domid: Domid, status: os.stat_result
) -> Domain | None:
    record = read_record(paths.runtime_dir, domid)
    if record is None or not record.end or not is_preserved(status):
        return None
    return Domain(
        domid=domid,
        name=record.name,
        handle=record.handle,
        memory_mib=_memory_left_mib(record, status),
        max_memory_mib=record.max_memory_mib or record.memory_mib,
        vcpus=tuple(
            Vcpu(number, host_cpu=0, is_running=False, cpu_s=0.0)
            for number in range(record.nr_vcpus)
        ),
        end=record.end,
    )


def _memory_left_mib(record: Record, status: os.stat_result) -> int:
    """The memory that the guest has not given back, as
    Balloon.actual_bytes(), by the blocks of its vmcore."""
    size_bytes = (record.max_memory_mib or record.memory_mib) << 20
    try:
        layout = machine_layout(size_bytes // PAGE_BYTES)
    except ValueError:
        return record.memory_mib
    all_bytes = sum(length for _gpa, length in layout.ram_ranges())
    left_bytes = size_bytes + status.st_blocks * 512 - all_bytes
    return max(0, min(size_bytes, left_bytes)) >> 20


class _Names:
    """Domains' names, from xenstore. If xenstore does not answer once, all
    further names come from the records."""

    def __init__(self, paths: Paths, stack: ExitStack) -> None:
        self._runtime_dir = paths.runtime_dir
        self._store: Xenstore | None = None
        with suppress(HostError):
            store = Xenstore(paths.xenstore, limit_s=_STORE_LIMIT_S)
            self._store = stack.enter_context(store)

    def of(self, domid: Domid) -> str:
        """The name; empty: unknown."""
        if self._store is not None:
            try:
                return self._store.read(f"{domain_path(domid)}/name")
            except XenstoreError:
                pass
            except (HostError, OSError):
                self._store = None
        record = read_record(self._runtime_dir, domid)
        return record.name if record is not None else ""


def _ask(domid: Domid, name: str, monitor: QmpClient, pid: int) -> Domain:
    status = monitor.execute("query-status")
    sizes = monitor.execute("query-memory-size-summary")
    memory = sizes["base-memory"] >> 20
    # Without a maximum the guest cannot grow.
    most = sizes.get("x-xenner-max-memory", sizes["base-memory"]) >> 20
    with suppress(HostError):
        memory = int(monitor.execute("query-balloon")["actual"]) >> 20
    vcpus = tuple(_vcpus(pid, monitor.execute("query-cpus-fast")))
    return Domain(
        domid=domid,
        name=name or str(monitor.execute("query-name")["name"]),
        handle=str(monitor.execute("query-uuid")["UUID"]),
        memory_mib=memory,
        max_memory_mib=most,
        is_paused=status["status"] in ("paused", "prelaunch"),
        is_ending=status["status"] == "shutdown",
        # The guest's time, as xl shows it: a reboot resets it.
        cpu_s=sum(vcpu.cpu_s for vcpu in vcpus),
        uptime_s=_uptime_s(pid),
        pid=pid,
        vcpus=vcpus,
    )


def _fields(path: Path) -> list[str]:
    """proc_pid_stat(5) from its third field on; [] if it is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(path: Path) -> float:
    fields = _fields(path)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def _uptime_s(pid: int) -> float:
    fields = _fields(Path(f"/proc/{pid}/stat"))
    if not fields:
        return 0.0
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, now_s - int(fields[19]) / _TICKS_PER_S)


def _vcpus(pid: int, answers: list[dict[str, Any]]) -> Iterator[Vcpu]:
    for answer in answers:
        path = Path(f"/proc/{pid}/task/{answer['thread-id']}/stat")
        fields = _fields(path)
        yield Vcpu(
            number=int(answer["cpu-index"]),
            host_cpu=int(fields[36]) if fields else 0,
            is_running=bool(fields) and fields[0] == "R",
            cpu_s=max(0.0, _cpu_s(path) - answer.get("x-earlier-cpu-s", 0.0)),
        )


def free_mib(meminfo: str, domains: Iterable[Domain]) -> int:
    """What new guests can have: no more than is there, and nothing that a
    guest has not touched yet."""
    guests_mib = sum(domain.memory_mib for domain in domains)
    left_mib = memory_mib(meminfo, "MemTotal") - guests_mib
    return max(0, min(memory_mib(meminfo, "MemAvailable"), left_mib))


def host_mib(meminfo: str, domains: Sequence[Domain]) -> int:
    """What the host itself uses, domain 0's memory. With the guests' and the
    free it is the total: a cluster manager takes the rest for the
    hypervisor's, which must not be below zero."""
    guests_mib = sum(domain.memory_mib for domain in domains)
    total_mib = memory_mib(meminfo, "MemTotal")
    return max(0, total_mib - guests_mib - free_mib(meminfo, domains))


def dom0(domains: Sequence[Domain]) -> Domain:
    """The host itself, as xl shows it."""
    text = Path("/proc/meminfo").read_text()
    cpus = _host_cpus()
    return Domain(
        Domid(0),
        "Domain-0",
        handle="00000000-0000-0000-0000-000000000000",
        memory_mib=host_mib(text, domains),
        max_memory_mib=memory_mib(text, "MemTotal"),
        cpu_s=sum(vcpu.cpu_s for vcpu in cpus),
        uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        vcpus=cpus,
    )


def memory_mib(text: str, key: str) -> int:
    """A line of /proc/meminfo, MiB."""
    match = re.search(rf"^{key}: +([0-9]+) kB$", text, re.MULTILINE)
    return int(match[1]) >> 10 if match else 0


def _host_cpus() -> tuple[Vcpu, ...]:
    """The host's CPUs, proc_stat(5): the time that was not idle."""
    found = []
    for line in Path("/proc/stat").read_text().splitlines():
        match = re.match(r"cpu([0-9]+) (.*)", line)
        if match:
            user, nice, system, _idle, _wait, irq, soft = map(
                int, match[2].split()[:7]
            )
            busy = user + nice + system + irq + soft
            number = int(match[1])
            found.append(Vcpu(number, number, True, busy / _TICKS_PER_S))
    return tuple(found)
