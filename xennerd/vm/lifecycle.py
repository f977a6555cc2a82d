# SPDX-License-Identifier: GPL-2.0-or-later
"""The lifecycle policy: what happens to a guest when it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from xenner.types import Domid, ShutdownReason
from xennerd.vm.memory.vmcore import Vmcore
from xennerd.vm.options import Options

_log = logging.getLogger("xenner")


@dataclass(frozen=True, slots=True)
class End:
    """How a guest ended by itself. `is_stop_requested`: this process was told
    to end before, and passed that on to the guest."""

    reason: ShutdownReason
    is_stop_requested: bool = False


class LifecyclePolicy(Protocol):
    """The session calls these methods in this order. Each end of the guest
    calls decide_restart() and carry_out(), or on_reset()."""

    def set_up_logging(self) -> None:
        """Replace the session's logging."""

    def on_created(self, domid: Domid) -> None:
        """This process owns the domain's number."""

    def on_running(self) -> None:
        """The guest runs. Called once, not after a reboot."""

    def on_shutdown_request(self, by: str) -> None:
        """`by` requested the guest to power off."""

    def decide_restart(self, end: End) -> bool:
        """True: the guest starts again in this process. Does not block."""

    def on_reset(self) -> bool:
        """The monitor resets the guest. True: it starts again in this process.
        Blocks only for a moment."""

    def carry_out(self, vmcore: Vmcore, last_words: bytes) -> None:
        """Do with the dead guest's memory what was decided; blocks.
        `last_words`: the end of the guest's console output."""


class OptionsLifecyclePolicy:
    """The options alone decide, as QEMU's do."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def set_up_logging(self) -> None:
        """Log to standard error, as set up."""

    def on_created(self, domid: Domid) -> None:
        """Nothing is recorded."""

    def on_running(self) -> None:
        """Nothing is logged."""

    def on_shutdown_request(self, by: str) -> None:
        """Logged with -d only."""
        _log.info("%s: asking the guest to power off", by)

    def decide_restart(self, end: End) -> bool:
        """Restart after a reboot, unless -no-reboot is given."""
        return (
            end.reason is ShutdownReason.REBOOT
            and self._options.is_reboot_allowed
            and not end.is_stop_requested
        )

    def on_reset(self) -> bool:
        """Always restart."""
        return True

    def carry_out(self, vmcore: Vmcore, last_words: bytes) -> None:
        """Nothing is preserved."""
