# SPDX-License-Identifier: GPL-2.0-or-later
"""What a monitor's clients can ask for, and what they are told unasked.

Commands, errors and events are those of QEMU's qapi/*.json.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from xenner.concurrency import run_abandonable
from xenner.errors import HostError
from xenner.types import Domid, ShutdownReason
from xennerd.qmp.commands import Command, Commands, without_arguments
from xennerd.qmp.fds import Caller, close_fd, get_fd
from xennerd.qmp.request import (
    Parameter,
    QmpError,
)
from xennerd.vm.blockinfo import block_info
from xennerd.vm.domain import Machine
from xennerd.vm.monitor.dump import Dump, DumpStatus, copy_core, open_target
from xennerd.vm.monitor.stats import query_schemas, query_stats, vcpu_path
from xennerd.vm.store.guest import GuestStore

EVENTS = (
    "BALLOON_CHANGE DUMP_COMPLETED GUEST_PANICKED POWERDOWN RESET RESUME "
    "SHUTDOWN STOP WATCHDOG"
).split()
# QEMU's own limit for this event.
_BALLOON_EVENT_S = 1.0


_DUMP_PARAMETERS = {
    "paging": Parameter(bool),
    "protocol": Parameter(str),
    "detach": Parameter(bool, is_optional=True),
    "begin": Parameter(int, is_optional=True),
    "length": Parameter(int, is_optional=True),
    "format": Parameter(str, is_optional=True),
}
_STATS_PARAMETERS = {
    "target": Parameter(str),
    "providers": Parameter(list, is_optional=True),
    "vcpus": Parameter(list, is_optional=True),
}


@dataclass
class Controls(Commands):
    """What a monitor can ask of its session, and whom to tell of events."""

    name: str
    domid: Domid
    handle: uuid.UUID
    nr_vcpus: int
    current: Callable[[], Machine | None]
    quit: Callable[[], None]
    reset: Callable[[], None]
    powerdown: Callable[[], None]
    """Have the guest asked to power off."""
    store: GuestStore
    memory_bytes: int = 0
    """What the guest has when it starts."""
    max_memory_bytes: int = 0
    """What it can have at most; 0: that."""
    _dump: Dump = field(default_factory=Dump)
    _balloon_moved: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.max_memory_bytes = max(self.max_memory_bytes, self.memory_bytes)
        super().__init__(self._table(), events=EVENTS)

    def heard_quit(self) -> None:
        """The client that asked for it knows that it is done."""
        self.quit()

    # --- events ---------------------------------------------------------------

    def ended(self, reason: ShutdownReason, *, reboots: bool = True) -> None:
        """Emit what QEMU emits for such an end."""
        cause = "guest-shutdown"
        match reason:
            case ShutdownReason.CRASH:
                self.emit("GUEST_PANICKED", action="poweroff")
                cause = "guest-panic"
            case ShutdownReason.WATCHDOG:
                self.emit("WATCHDOG", action="poweroff")
            case ShutdownReason.REBOOT:
                cause = "guest-reset"
                if reboots:
                    self.emit("RESET", guest=True, reason=cause)
                    return
        self.emit("SHUTDOWN", guest=True, reason=cause)

    def balloon_moved(self) -> None:
        """The guest gave memory back or took some."""
        self._balloon_moved.set()

    async def serve_balloon_events(self) -> None:
        """BALLOON_CHANGE: the first at once, then one a second at most."""
        while True:
            await self._balloon_moved.wait()
            self._balloon_moved = trio.Event()
            machine = self.current()
            if machine is not None:
                self.emit("BALLOON_CHANGE", actual=machine.memory_bytes())
            await trio.sleep(_BALLOON_EVENT_S)

    # --- commands -------------------------------------------------------------

    def machine(self) -> Machine:
        machine = self.current()
        if machine is None:
            raise QmpError("the guest is not running")
        return machine

    def _table(self) -> dict[str, Command]:
        text, number = Parameter(str), Parameter(int)
        provider = Parameter(str, is_optional=True)
        simple: dict[str, Callable[[], Any]] = {
            "query-name": lambda: {"name": self.name},
            "query-uuid": lambda: {"UUID": str(self.handle)},
            "query-kvm": lambda: {"enabled": True, "present": True},
            "query-target": lambda: {"arch": "x86_64"},
            "query-status": self._query_status,
            "query-cpus-fast": self._query_cpus,
            "query-memory-size-summary": self._query_memory,
            "query-balloon": self._query_balloon,
            "query-block": self._query_block,
            "query-dump": lambda: self._dump.result(),
            "query-dump-guest-memory-capability": lambda: {"formats": ["elf"]},
            "stop": self._stop,
            "cont": self._cont,
            "quit": self._quit,
            "system_reset": self._system_reset,
            "system_powerdown": self._system_powerdown,
            "x-xenner-statistics": lambda: self.machine().statistics(),
        }
        table = {name: without_arguments(run) for name, run in simple.items()}
        return table | {
            "balloon": Command(self._balloon, {"value": number}),
            "x-xenner-memory-limit": Command(
                self._limit_memory, {"value": number}
            ),
            "getfd": Command(get_fd, {"fdname": text}),
            "closefd": Command(close_fd, {"fdname": text}),
            "dump-guest-memory": Command(self._dump_memory, _DUMP_PARAMETERS),
            "query-stats": Command(self._query_stats, _STATS_PARAMETERS),
            "query-stats-schemas": Command(
                self._query_schemas, {"provider": provider}
            ),
        }

    def _query_status(self) -> Any:
        machine = self.current()
        running = machine is not None and machine.gate.is_open
        if machine is None:
            status = "shutdown"
        elif self._dump.status is DumpStatus.ACTIVE:
            status = "save-vm"
        else:
            status = "prelaunch" if machine.ready_at is None else "paused"
        return {"running": running, "status": "running" if running else status}

    def _query_cpus(self) -> Any:
        machine = self.current()
        return [
            {
                "cpu-index": i,
                "qom-path": vcpu_path(i),
                "thread-id": machine.vcpus[i].thread_id if machine else 0,
                # Of the thread's time, what is not this guest's.
                "x-earlier-cpu-s": (
                    machine.vcpus[i].earlier_cpu_s if machine else 0.0
                ),
                "target": "x86_64",
            }
            for i in range(self.nr_vcpus)
        ]

    def _stop(self) -> Any:
        self._pause(self._undisturbed())
        return {}

    def _cont(self) -> Any:
        self._resume(self._undisturbed())
        return {}

    def _pause(self, machine: Machine) -> None:
        if machine.gate.is_open:
            machine.pause()
            self.emit("STOP")

    def _resume(self, machine: Machine) -> None:
        if not machine.gate.is_open:
            machine.resume()
            self.emit("RESUME")

    def _undisturbed(self) -> Machine:
        """The machine, unless a dump needs it to stay as it is."""
        if self._dump.status is DumpStatus.ACTIVE:
            raise QmpError("There is a dump in process, please wait.")
        return self.machine()

    def _quit(self) -> Any:
        self.emit("SHUTDOWN", guest=False, reason="host-qmp-quit")
        self.is_quitting = True
        return {}

    def _system_reset(self) -> Any:
        self._undisturbed()
        self.reset()
        self.emit("RESET", guest=False, reason="host-qmp-system-reset")
        return {}

    def _system_powerdown(self) -> Any:
        self.machine()
        self.powerdown()
        self.emit("POWERDOWN")
        return {}

    # --- memory and disks -----------------------------------------------------

    async def _balloon(self, arguments: dict[str, Any], _: Caller) -> Any:
        if arguments["value"] <= 0:
            raise QmpError("Parameter 'target' expects a size")
        wanted = min(arguments["value"], self.max_memory_bytes)
        await _ask(self.store.set_memory_target, wanted // 1024)
        return {}

    def _query_memory(self) -> Any:
        """As QEMU's, and what it can grow to where that is more."""
        base, most = self.memory_bytes, self.max_memory_bytes
        more = {"x-xenner-max-memory": most} if most > base else {}
        return {"base-memory": base, **more}

    def _query_balloon(self) -> Any:
        return {"actual": self.machine().memory_bytes()}

    def _limit_memory(self, arguments: dict[str, Any], _: Caller) -> Any:
        """The guest's balloon target until it restarts."""
        if not 0 < arguments["value"] <= self.max_memory_bytes:
            raise QmpError("Parameter 'value' expects a size")
        self.machine().balloon.limit_bytes = arguments["value"]
        return {}

    async def _query_block(self) -> Any:
        found = await _ask(self.store.vbd_nodes)
        return [block_info(devid, nodes) for devid, nodes in found.items()]

    # --- statistics -----------------------------------------------------------

    def _query_stats(self, arguments: dict[str, Any], _: Caller) -> Any:
        fds = self.machine().stats_fds
        return query_stats(arguments, vm=fds.vm, vcpus=fds.vcpus)

    def _query_schemas(self, arguments: dict[str, Any], _: Caller) -> Any:
        fds = self.machine().stats_fds
        return query_schemas(
            arguments.get("provider"), vm=fds.vm, vcpus=fds.vcpus
        )

    # --- the dump -------------------------------------------------------------

    async def _dump_memory(
        self, arguments: dict[str, Any], caller: Caller
    ) -> Any:
        """Stops a running guest for as long as it takes."""
        machine = self._undisturbed()
        _check_dump(arguments)
        target = open_target(arguments["protocol"], caller.named_fds)
        dump = self._dump = Dump(DumpStatus.ACTIVE)
        was_running = machine.gate.is_open
        self._pause(machine)
        error = ""
        try:
            source = os.dup(machine.vmcore.fd)
            await run_abandonable(copy_core, source, target, dump)
            dump.status = DumpStatus.COMPLETED
        except OSError as problem:
            error = f"dump: {problem.strerror}"
        finally:
            if dump.status is DumpStatus.ACTIVE:
                dump.is_cancelled.set()
                dump.status = DumpStatus.FAILED
            if was_running:
                self._resume(machine)
        if error:
            self.emit("DUMP_COMPLETED", result=dump.result(), error=error)
            raise QmpError(error)
        self.emit("DUMP_COMPLETED", result=dump.result())
        return {}


async def _ask(call: Callable[..., Any], *arguments: object) -> Any:
    """xenstore may be slow, or gone: then so is the answer, not the guest."""
    try:
        return await run_abandonable(call, *arguments)
    except HostError as error:
        raise QmpError(str(error)) from None


def _check_dump(arguments: Mapping[str, Any]) -> None:
    """Refuse what a copy of the vmcore cannot be."""
    if arguments.get("detach"):
        raise QmpError("Parameter 'detach': a dump is waited for here")
    if {"begin", "length"} & arguments.keys():
        raise QmpError("Parameter 'begin': a dump has all memory here")
    if arguments.get("format", "elf") != "elf":
        raise QmpError(
            f"Parameter 'format' does not accept '{arguments['format']}'"
        )
