# SPDX-License-Identifier: GPL-2.0-or-later
"""One call of `xenner`: from options to exit status."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from xenner import concurrency, service
from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError, why_unread
from xenner.paths import check_runtime_dir, runtime_dir_of
from xenner.types import Domid
from xenner.vmcorelocks import find_free_domid
from xenner.watchdog import feed_watchdog
from xennerd.vm import background as daemon
from xennerd.vm import stopping
from xennerd.vm.boot.emu_image import emu_image
from xennerd.vm.boot.kernel import load_kernel
from xennerd.vm.boot.kernelcache import KernelCache, default_cache_dir
from xennerd.vm.boot.startofday import plan_start_of_day
from xennerd.vm.connecting import (
    Wanted,
    wait_connected,
    wait_offered,
    wanted_devices,
)
from xennerd.vm.console.console import (
    LeaveConsole,
    RememberingSink,
    open_console,
)
from xennerd.vm.crashreport import report_end
from xennerd.vm.domain import (
    Images,
    Machine,
    Plan,
    open_machine,
)
from xennerd.vm.kvm._vcpu import lib
from xennerd.vm.kvm.host import cpuid_for, detect_quirks
from xennerd.vm.kvm.machine import Kvm
from xennerd.vm.lifecycle import End, LifecyclePolicy, OptionsLifecyclePolicy
from xennerd.vm.memory.layout import MachineLayout, machine_layout
from xennerd.vm.memory.vmcore import DomidTakenError, Vmcore, open_vmcore
from xennerd.vm.monitor.commands import Controls
from xennerd.vm.monitor.server import serve_monitor
from xennerd.vm.options import Options
from xennerd.vm.running import run_machine
from xennerd.vm.services import DomainServices, open_domain_services
from xennerd.vm.store.builtin import OwnStore
from xennerd.vm.store.guest import GuestStore

_log = logging.getLogger("xenner")


_HEALTH_POLL_S = 0.02


def run_session(
    options: Options,
    *,
    started_at: float,
    lifecycle: LifecyclePolicy | None = None,
) -> int:
    """Run the guest of the options; raises ConfigError, HostError.

    `lifecycle` decides what happens when it ends; without one the options do.
    """
    lifecycle = lifecycle or OptionsLifecyclePolicy(options)
    _set_up_logging(options.topics)
    lifecycle.set_up_logging()
    runtime_dir = options.runtime_dir or runtime_dir_of(os.environ)
    check_runtime_dir(runtime_dir)
    images = load_images(options)
    try:
        layout = machine_layout(
            max(options.memory_bytes, options.max_memory_bytes) // 4096,
            options.memory_bytes // 4096,
        )
    except ValueError as error:
        raise ConfigError(f"-m: {error}") from None
    _check_fits(images, options)
    with ExitStack() as stack:
        in_background = None
        if options.is_daemon:
            in_background = daemon.go_to_background()
        kvm = stack.enter_context(Kvm())
        domid, vmcore = _enter_vmcore(stack, options, layout, runtime_dir)
        lifecycle.on_created(domid)
        if options.pidfile is not None:
            stack.enter_context(daemon.pidfile(options.pidfile))
        plan = _plan(options, kvm, domid=domid)
        _check(lib.vcpu_signals_init())
        services = None
        if options.evtchnd is not None:
            services = stack.enter_context(
                open_domain_services(
                    options.evtchnd,
                    domid,
                    xenstore=options.xenstore,
                    nr_vcpus=options.nr_vcpus,
                    nr_pages=layout.guest_nr_pages,
                    handle=plan.handle,
                )
            )
        session = Session(
            options,
            plan,
            vmcore=vmcore,
            kvm=kvm,
            services=services,
            images=images,
            started_at=started_at,
            lifecycle=lifecycle,
        )
        if in_background is not None:
            session.when_ready.append(in_background)
        del images  # The session drops them when they are in the guest.
        try:
            return concurrency.run(session.run)
        except BaseExceptionGroup as group:
            raise _blame(group) from None


def _enter_vmcore(
    stack: ExitStack,
    options: Options,
    layout: MachineLayout,
    runtime_dir: Path,
) -> tuple[Domid, Vmcore]:
    """Create the memory of the domain, or of the lowest free number."""
    while True:
        domid = Domid(options.domid or find_free_domid(runtime_dir))
        try:
            vmcore = open_vmcore(
                domid,
                layout=layout,
                nr_vcpus=options.nr_vcpus,
                runtime_dir=runtime_dir,
            )
            return domid, stack.enter_context(vmcore)
        except DomidTakenError:
            # It was free when we looked: somebody was faster.
            if options.domid is not None:
                raise


def _blame(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The ConfigError or HostError inside trio's groups; else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ConfigError | HostError) else group


class Session:
    """One guest through its reboots, with its console and monitor."""

    def __init__(
        self,
        options: Options,
        plan: Plan,
        *,
        vmcore: Vmcore,
        kvm: Kvm,
        services: DomainServices | None,
        images: Images,
        started_at: float,
        lifecycle: LifecyclePolicy,
    ) -> None:
        self._lifecycle = lifecycle
        self._options = options
        self._plan = plan
        self._vmcore = vmcore
        self._kvm = kvm
        self._services = services
        self._own_store: OwnStore | None = None
        if services is not None and services.store is not None:
            self._store: GuestStore = services
        else:
            self._store = self._own_store = OwnStore()
        self._status = 0
        self._machine: Machine | None = None
        self._is_reset = False
        self._images: Images | None = images
        self._is_stop_requested = False
        self._is_ready = False
        self._started_at = started_at
        self.when_ready = [lifecycle.on_running]
        """Functions to call once, when the guest runs."""
        self.controls = Controls(
            name=plan.name,
            domid=plan.domid,
            handle=options.handle,
            nr_vcpus=plan.nr_vcpus,
            current=lambda: self._machine,
            quit=self._quit,
            reset=self._reset,
            powerdown=self._powerdown,
            memory_bytes=options.memory_bytes,
            max_memory_bytes=max(
                options.memory_bytes, options.max_memory_bytes
            ),
            store=self._store,
        )

    async def run(self) -> int:
        """Run to the end; returns the exit status."""
        link = self._beside("console")
        try:
            async with open_console(self._options.serial, link=link) as sink:
                await self._serve(RememberingSink(sink))
        except* LeaveConsole:
            print("\r", file=sys.stderr)
        return self._status

    def _beside(self, name: str) -> Path:
        """The path of a file of this domain beside the vmcore."""
        return self._vmcore.path.with_name(f"{name}.{self._plan.domid}")

    async def _serve(self, sink: RememberingSink) -> None:
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self._tasks = nursery
            await nursery.start(self._serve_signals)
            await nursery.start(
                partial(serve_monitor, link=self._beside("monitor")),
                self._options.monitor,
                self.controls,
            )
            if self._services is not None:
                nursery.start_soon(self._services.keep_connected)
            nursery.start_soon(feed_watchdog, self._check_health)
            await self._run_guest(sink)
            await self.controls.wait_told()
            nursery.cancel_scope.cancel()

    async def _run_guest(self, sink: RememberingSink) -> None:
        is_stopped = self._options.is_stopped
        while True:
            self._is_reset = False
            # Loaded for each start, and dropped once they are in the guest.
            images = self._images or load_images(self._options)
            self._images = None
            with open_machine(
                self._plan,
                images,
                vmcore=self._vmcore,
                kvm=self._kvm,
                is_stopped=is_stopped,
                services=self._services,
                own_store=self._own_store,
            ) as machine:
                del images
                self._machine = machine
                if is_stopped:
                    # Ready now: the guest waits for the monitor's "cont".
                    self._ready()
                try:
                    outcome = await run_machine(
                        machine,
                        sink,
                        on_ready=self._ready,
                        on_balloon=self.controls.balloon_moved,
                    )
                finally:
                    self._machine = None
                    self._show_trace(machine)
                    self._show_statistics(machine)
                if outcome is None:
                    is_next = self._is_reset and self._lifecycle.on_reset()
                else:
                    self._status = report_end(machine, outcome)
                    end = End(
                        outcome.reason,
                        is_stop_requested=self._is_stop_requested,
                    )
                    is_next = self._lifecycle.decide_restart(end)
                    self.controls.ended(outcome.reason, reboots=is_next)
                    if self._services is not None:
                        self._services.notify_shutdown(outcome.reason)
            last_words = sink.take_said()
            if outcome is not None:
                # The guest has stopped: its memory does not change any more.
                await trio.to_thread.run_sync(
                    self._lifecycle.carry_out, self._vmcore, last_words
                )
            if not is_next:
                return
            is_stopped = False
            self._vmcore.clear()

    async def _check_health(self) -> None:
        """Kick each vCPU thread that runs the guest, and wait until it
        leaves."""
        machine = self._machine
        for vcpu in machine.vcpus if machine is not None else ():
            nr_before = vcpu.nr_kicked_exits
            vcpu.kick()
            # The thread only counts: signalling each exit would cost it time.
            while vcpu.is_inside and vcpu.nr_kicked_exits == nr_before:  # noqa: ASYNC110
                await trio.sleep(_HEALTH_POLL_S)

    def _ready(self) -> None:
        """Called at each start of the guest."""
        service.notify(f"STATUS={self._status_line()}")
        for tell in self.when_ready:
            tell()
        self.when_ready.clear()
        if self._is_ready:
            return
        self._is_ready = True
        xenstore = self._services.store if self._services else None
        devices = wanted_devices(
            self._plan.domid, disks=self._plan.disks, vifs=self._plan.vifs
        )
        if devices and xenstore is not None:
            self._tasks.start_soon(self._await_devices, xenstore, devices)
        else:
            service.notify("READY=1")

    async def _await_devices(
        self, xenstore: Path, devices: list[Wanted]
    ) -> None:
        """Without its devices a start fails, as with libxl."""
        options = self._options
        wait = partial(wait_offered, xenstore, devices)
        # A paused guest connects to no device.
        if options.wait_devices_s and not options.is_stopped:
            wait = partial(
                wait_connected,
                xenstore,
                devices,
                limit_s=options.wait_devices_s,
            )
        await run_abandonable(wait)
        service.notify("READY=1")

    def _status_line(self) -> str:
        """For the service manager. Contains nothing that changes with time."""
        vcpus = (
            "1 vCPU"
            if self._plan.nr_vcpus == 1
            else (f"{self._plan.nr_vcpus} vCPUs")
        )
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return (
            f"{self._plan.name}: domain {self._plan.domid}, "
            f"{self._options.memory_bytes >> 20} MiB, {vcpus}, up since {since}"
        )

    def _show_trace(self, machine: Machine) -> None:
        if self._options.topics & {"trace", "all"}:
            for line in machine.flight_recorders():
                print(line, file=sys.stderr)

    def _show_statistics(self, machine: Machine) -> None:
        if not self._options.topics & {"stats", "all"}:
            return
        numbers = {
            "startup_s": round(
                (machine.ready_at or time.monotonic()) - self._started_at, 4
            ),
            "run_s": round(time.monotonic() - self._started_at, 4),
            "kvm": "software" if self._plan.quirks else "hardware",
            **machine.statistics(),
        }
        print(json.dumps(numbers), file=sys.stderr, flush=True)

    def _quit(self) -> None:
        self._scope.cancel()

    async def _end_by_signal(self) -> None:
        self.controls.emit("SHUTDOWN", guest=False, reason="host-signal")
        await self.controls.wait_told()
        self._quit()

    def _reset(self) -> None:
        self._is_reset = True
        if self._machine is not None:
            self._machine.end()

    async def _serve_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Request a shutdown at the first signal; end at the second, or if the
        guest does not run."""
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGHUP
        ) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                service.notify("STOPPING=1")
                if not self._is_stop_requested and self._runs():
                    self._is_stop_requested = True
                    self._tasks.start_soon(self._ask_or_end, name)
                    continue
                _log.info("%s: ending", name)
                self._tasks.start_soon(self._end_by_signal)
                # A third one kills us, whatever we are waiting for.
                signal.signal(number, signal.SIG_DFL)

    def _runs(self) -> bool:
        """Does the guest run? A paused guest sees no request."""
        machine = self._machine
        return machine is not None and machine.gate.is_open

    def _powerdown(self) -> None:
        self._lifecycle.on_shutdown_request("the monitor")
        self._tasks.start_soon(stopping.request_poweroff, self._store)

    async def _ask_or_end(self, name: str) -> None:
        await stopping.request_and_wait(
            self._store,
            limit_s=stopping.ALONE_LIMIT_S
            if self._own_store
            else stopping.STOP_LIMIT_S,
            on_request=lambda: self._lifecycle.on_shutdown_request(name),
        )
        await self._end_by_signal()


def _plan(
    options: Options,
    kvm: Kvm,
    *,
    domid: Domid,
) -> Plan:
    quirks = detect_quirks()
    _log.info("quirks of this KVM: %#x", quirks)
    return Plan(
        domid=domid,
        name=options.name or f"guest-{domid}",
        handle=options.handle.bytes,
        cmdline=os.fsencode(options.append),
        nr_vcpus=options.nr_vcpus,
        quirks=quirks,
        cpuid=cpuid_for(kvm, quirks),
        emu_image=emu_image(),
        is_console_ours=options.serial != "xenconsoled",
        disks=options.disks,
        vifs=options.vifs,
    )


def _read_initrd(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the initrd: {why_unread(error)}", file=path
        ) from error


def load_images(options: Options) -> Images:
    """The files that the guest starts from; ConfigError if they are bad."""
    return Images(
        kernel=load_kernel(
            options.kernel, cache=KernelCache(default_cache_dir())
        ),
        initrd=_read_initrd(options.initrd),
    )


def _check_fits(images: Images, options: Options) -> None:
    """Fail before anything is created if the guest does not fit."""
    plan_start_of_day(
        images.kernel,
        nr_pages=options.memory_bytes // 4096,
        initrd_bytes=len(images.initrd or b""),
    )


def _set_up_logging(topics: frozenset[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    if "all" in topics:
        logging.getLogger("xenner").setLevel(logging.DEBUG)
    for topic, name in (("console", "xenner.emu"), ("exits", "xenner.exits")):
        if topic in topics:
            logging.getLogger(name).setLevel(logging.DEBUG)


def _check(rc: int) -> None:
    if rc < 0:
        raise HostError(os.strerror(-rc))
