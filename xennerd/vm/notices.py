# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of a guest, and by emu, for the log.

emu is the guest's, which may have it say anything, and for ever."""

import logging

from xenner import abi
from xenner.linebudget import LineBudget
from xennerd.vm import recorder

_log = logging.getLogger("xenner")
_emu_log = logging.getLogger("xenner.emu")
_TEXTS = {
    abi.EMU_NOTICE_BREAKPOINTS: (
        "the guest sets a hardware breakpoint: this host's KVM has none, "
        "it will not be hit"
    ),
    abi.EMU_NOTICE_NARROW_CODE: (
        "the guest runs a 32-bit program: this host's KVM interprets it, "
        "hundreds of times slower and without floating point"
    ),
}


class Notices:
    """Each is said once, whatever the guest's programs go on asking for."""

    def __init__(self) -> None:
        self._said: set[int] = set()

    def perform(self, nr: int) -> None:
        """EMU_REQUEST_NOTICE; a number that nobody knows is left alone."""
        if nr in _TEXTS and nr not in self._said:
            self._said.add(nr)
            _log.warning("%s", _TEXTS[nr])


class EmuLines:
    """What emu says, where -d asks for it; no more than can be read."""

    def __init__(self) -> None:
        self._budget = LineBudget(burst=200, per_s=20)

    def write(self, text: bytes) -> None:
        """EMU_REQUEST_CONSOLE."""
        for line in text.splitlines():
            if not self._budget.take():
                continue
            if nr_dropped := self._budget.take_dropped():
                _emu_log.info("(%d lines too many are left out)", nr_dropped)
            _emu_log.info("%s", recorder.printable(line))
