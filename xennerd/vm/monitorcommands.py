# SPDX-License-Identifier: GPL-2.0-or-later
"""What a monitor's clients can ask for, and what they are told unasked.

Commands, errors and events are those of QEMU's qapi/*.json.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from xenner.concurrency import run_abandonable
from xenner.errors import HostError
from xenner.types import Domid, ShutdownReason
from xennerd.vm.domain import Machine
from xennerd.vm.monitorblock import block_info
from xennerd.vm.monitordump import Dump, DumpStatus, copy_core, open_target
from xennerd.vm.monitorfds import Caller, close_fd, get_fd
from xennerd.vm.monitorrequest import (
    ErrorClass,
    Parameter,
    QmpError,
    Request,
    check_arguments,
    command_not_found,
)
from xennerd.vm.monitorstats import query_schemas, query_stats, vcpu_path

VERSION = {
    "qemu": {"major": 0, "minor": 1, "micro": 0},
    "package": "xenner",
}
EVENTS = (
    "BALLOON_CHANGE DUMP_COMPLETED GUEST_PANICKED POWERDOWN RESET RESUME "
    "SHUTDOWN STOP WATCHDOG"
).split()
# QEMU's own limit for this event.
_BALLOON_EVENT_S = 1.0
_LAST_WORDS_S = 1.0


class Listener(Protocol):
    """Somebody who is told of events."""

    def post(self, message: dict[str, Any]) -> None: ...

    async def wait_idle(self) -> None: ...


class GuestStore(Protocol):
    """The guest's nodes in xenstore. Calls block; HostError: it is gone."""

    def set_memory_target(self, kib: int) -> None: ...

    def vbd_nodes(self) -> dict[int, dict[str, str]]: ...


@dataclass(frozen=True, slots=True)
class _Command:
    """`run` takes the arguments, checked, and who asks."""

    run: Callable[[dict[str, Any], Caller], Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


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
class Controls:
    """What a monitor can ask of its session, and whom to tell of events."""

    name: str
    domid: Domid
    handle: uuid.UUID
    nr_vcpus: int
    current: Callable[[], Machine | None]
    quit: Callable[[], None]
    reset: Callable[[], None]
    powerdown: Callable[[], bool]
    """Have the guest asked to power off; False: there is no way to ask."""
    memory_bytes: int = 0
    """What the guest can have at most."""
    store: GuestStore | None = None
    clients: list[Listener] = field(default_factory=list)
    is_quitting: bool = False
    _dump: Dump = field(default_factory=Dump)
    _balloon_moved: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self._commands = self._table()

    # --- events ---------------------------------------------------------------

    def emit(self, event: str, **data: Any) -> None:
        """Tell every client; one that does not read loses its events."""
        now = time.time()
        message: dict[str, Any] = {
            "event": event,
            "timestamp": {
                "seconds": int(now),
                "microseconds": int(now % 1 * 1_000_000),
            },
        }
        if data:
            message["data"] = data
        for client in self.clients:
            client.post(message)

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

    async def wait_told(self) -> None:
        """Until every client that reads has had its events."""
        with trio.move_on_after(_LAST_WORDS_S):
            for client in list(self.clients):
                await client.wait_idle()

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

    async def execute(self, request: Request, caller: Caller) -> Any:
        """Do it; the value to return. QmpError: it cannot be done."""
        command = self._commands.get(request.name)
        if command is None:
            raise command_not_found(request.name)
        check_arguments(request.arguments, command.parameters)
        result = command.run(request.arguments, caller)
        return await result if isinstance(result, Awaitable) else result

    def machine(self) -> Machine:
        machine = self.current()
        if machine is None:
            raise QmpError("the guest is not running")
        return machine

    def _table(self) -> dict[str, _Command]:
        text, number = Parameter(str), Parameter(int)
        provider = Parameter(str, is_optional=True)
        simple: dict[str, Callable[[], Any]] = {
            "query-version": lambda: VERSION,
            "query-commands": lambda: _names(("qmp_capabilities", *table)),
            "query-events": lambda: _names(EVENTS),
            "query-name": lambda: {"name": self.name},
            "query-uuid": lambda: {"UUID": str(self.handle)},
            "query-kvm": lambda: {"enabled": True, "present": True},
            "query-target": lambda: {"arch": "x86_64"},
            "query-status": self._query_status,
            "query-cpus-fast": self._query_cpus,
            "query-memory-size-summary": lambda: {
                "base-memory": self.memory_bytes
            },
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
        table = {
            "balloon": _Command(self._balloon, {"value": number}),
            "getfd": _Command(get_fd, {"fdname": text}),
            "closefd": _Command(close_fd, {"fdname": text}),
            "dump-guest-memory": _Command(self._dump_memory, _DUMP_PARAMETERS),
            "query-stats": _Command(self._query_stats, _STATS_PARAMETERS),
            "query-stats-schemas": _Command(
                self._query_schemas, {"provider": provider}
            ),
        }
        for name, run in simple.items():
            table[name] = _Command(_without_arguments(run))
        return table

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
        if not self.powerdown():
            raise QmpError(
                "there is no xenstore to ask the guest through; use quit"
            )
        self.emit("POWERDOWN")
        return {}

    # --- memory and disks -----------------------------------------------------

    async def _balloon(self, arguments: dict[str, Any], _: Caller) -> Any:
        store = self._balloon_store()
        if arguments["value"] <= 0:
            raise QmpError("Parameter 'target' expects a size")
        wanted = min(arguments["value"], self.memory_bytes)
        await _ask(store.set_memory_target, wanted // 1024)
        return {}

    def _query_balloon(self) -> Any:
        self._balloon_store()
        return {"actual": self.machine().memory_bytes()}

    def _balloon_store(self) -> GuestStore:
        if self.store is None:
            raise QmpError(
                "No balloon device has been activated",
                kind=ErrorClass.DEVICE_NOT_ACTIVE,
            )
        return self.store

    async def _query_block(self) -> Any:
        if self.store is None:
            return []
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


def _without_arguments(
    run: Callable[[], Any],
) -> Callable[[dict[str, Any], Caller], Any]:
    return lambda _arguments, _caller: run()


def _names(names: Any) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


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
