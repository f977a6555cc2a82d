# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has a guest run, and what becomes of it when it ends."""

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
    """How a guest ended by itself. `is_asked`: this process was told to end
    before, and the guest did what it was asked for."""

    reason: ShutdownReason
    is_asked: bool = False


class Keeper(Protocol):
    """Told of a guest's life in this order; decide() and settle() at each
    end, or reset()."""

    def set_up_logging(self) -> None:
        """Replace what logging is set up to."""

    def own(self, domid: Domid) -> None:
        """The domain's number is ours."""

    def run(self) -> None:
        """The guest runs; once, not after a reboot."""

    def asked(self, by: str) -> None:
        """Somebody has it asked to power off."""

    def decide(self, end: End) -> bool:
        """True: it starts again, here. Does not block."""

    def reset(self) -> bool:
        """Somebody has it start anew, whatever it was about. True: here. A
        moment's work."""

    def settle(self, vmcore: Vmcore, said: bytes) -> None:
        """Do with the dead guest's memory what was decided; blocks. `said`:
        the end of what it has written on its console."""


class Unkept:
    """The options alone say it, as QEMU's do."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def set_up_logging(self) -> None:
        """Lines on standard error."""

    def own(self, domid: Domid) -> None:
        """Nothing is written down."""

    def run(self) -> None:
        """Nobody is told."""

    def asked(self, by: str) -> None:
        """Only with -d."""
        _log.info("%s: asking the guest to power off", by)

    def decide(self, end: End) -> bool:
        """Again after a reboot, without -no-reboot."""
        is_reboot = end.reason is ShutdownReason.REBOOT
        return (
            is_reboot and self._options.is_reboot_allowed and not end.is_asked
        )

    def reset(self) -> bool:
        """Always."""
        return True

    def settle(self, vmcore: Vmcore, said: bytes) -> None:
        """Nothing stays."""
