# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest asked for and this host's KVM does not have, for the log."""

import logging

from xenner import abi

_log = logging.getLogger("xenner")
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
