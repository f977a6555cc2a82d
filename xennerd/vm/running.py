# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's life in one process: run, and end.

run_machine ─┬─ one thread per vCPU (Vcpu.run)
             ├─ console: ring -> sink, sink -> ring
             ├─ xenstore, where nobody beside us has it
             ├─ clock: steers guest time
             └─ watchdog: ends a guest that does not come back
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from xenner import abi
from xenner.types import ShutdownReason
from xennerd.vm import clock as clocks
from xennerd.vm.console.console import Sink
from xennerd.vm.console.pump import ConsolePump
from xennerd.vm.domain import Machine
from xennerd.vm.kvm.vcpu import Outcome, Vcpu


async def run_machine(
    machine: Machine,
    sink: Sink,
    *,
    on_ready: Callable[[], None],
    on_balloon: Callable[[], None],
) -> Outcome | None:
    """Run until the guest ends; None if end() was called first.

    `on_balloon` is called after the guest's memory has changed.
    """
    outcomes: list[Outcome] = []
    has_expired = False
    token = trio.lowlevel.current_trio_token()
    pump = machine.open_pump(sink)

    def on_request(nr: int, request: Any) -> None:
        if nr == abi.EMU_REQUEST_READY:
            # Not waited for: a pause of this vCPU may have trio's thread.
            machine.mark_ready(
                lambda: token.run_sync_soon(on_ready, idempotent=True)
            )
        else:
            machine.answer(nr, request)
            if nr == abi.EMU_REQUEST_BALLOON:
                token.run_sync_soon(on_balloon, idempotent=True)

    async def serve_vcpu(vcpu: Vcpu) -> None:
        outcome = await trio.to_thread.run_sync(
            vcpu.run, machine.gate, on_request, limiter=limiter
        )
        if outcome is not None:
            outcomes.append(outcome)
        machine.end()

    async def end_by_watchdog() -> None:
        nonlocal has_expired
        await machine.watchdogs.wait_expired()
        has_expired = True
        machine.end()

    limiter = trio.CapacityLimiter(len(machine.vcpus))
    try:
        async with trio.open_nursery() as helpers:
            helpers.start_soon(_end_when_cancelled, machine)
            helpers.start_soon(end_by_watchdog)
            _start_serving(helpers, machine, pump)
            async with trio.open_nursery() as vcpus:
                for vcpu in machine.vcpus:
                    vcpus.start_soon(serve_vcpu, vcpu)
            if pump is not None:
                await pump.flush()
            helpers.cancel_scope.cancel()
    finally:
        machine.end()
        if pump is not None:
            pump.ring.release()
    if outcomes:
        return outcomes[0]
    if has_expired:
        # Where the first one is; the others are told of as well.
        return machine.vcpus[0].found(
            ShutdownReason.WATCHDOG, "its watchdog has fired"
        )
    return None


async def _end_when_cancelled(machine: Machine) -> None:
    try:
        await trio.sleep_forever()
    finally:
        machine.end()


def _start_serving(
    nursery: trio.Nursery, machine: Machine, pump: ConsolePump | None
) -> None:
    """All that the guest has to do with, until the nursery is cancelled."""
    if pump is not None:
        nursery.start_soon(pump.serve_output)
        nursery.start_soon(pump.serve_input)
    nursery.start_soon(machine.serve_store)
    if machine.channels is not None:
        nursery.start_soon(machine.channels.serve_doorbells, machine.notify)
    nursery.start_soon(
        clocks.serve_clock,
        machine.shared_clock(),
        machine.clock,
        machine.tsc_offset,
    )
