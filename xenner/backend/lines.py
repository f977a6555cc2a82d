# SPDX-License-Identifier: GPL-2.0-or-later
"""What a backend says: lines of the journal, with the domain and the device
as fields.

A guest connects and disconnects its devices as often as it likes: of what it
provokes so many lines are told, and of the others the number.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from xenner.linebudget import LineBudget
from xenner.types import Domid

# A device says three lines for each boot of its guest.
_BURST = 20
_LINES_PER_S = 0.2
# A node has 4096 bytes with its path (io/xs_wire.h), a character up to four.
_REASON_CHARS = 500


def reason_of(text: str) -> str:
    """As much of it as is told: what a guest wrote may be in it, and the store
    takes only so much."""
    is_short = len(text) <= _REASON_CHARS
    return text if is_short else f"{text[:_REASON_CHARS]}..."


def device_fields(path: str, domid: Domid) -> dict[str, str]:
    """The journal's fields of backend/<kind>/<domid>/<devid>."""
    _backend, kind, _domid, devid = path.split("/")
    return {
        "XENNER_DOMID": str(domid),
        "XENNER_DEVICE": f"{kind}/{devid}",
    }


def device_budget() -> LineBudget:
    """Of what may be told of one device."""
    return LineBudget(burst=_BURST, per_s=_LINES_PER_S)


class DeviceLog(logging.LoggerAdapter[logging.Logger]):
    """The log of one device, which its path begins."""

    def __init__(
        self,
        logger: logging.Logger,
        path: str,
        domid: Domid,
        budget: LineBudget | None = None,
    ) -> None:
        self._fields = device_fields(path, domid)
        super().__init__(logger, self._fields)
        self._path = path
        self._budget = budget or device_budget()

    def name_domain(self, fields: Mapping[str, str]) -> None:
        """More fields from now on; empty ones are none."""
        self._fields.update({k: v for k, v in fields.items() if v})

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Tell it unless there were too many; then tell how many."""
        if not self.isEnabledFor(level) or not self._budget.take():
            return
        if nr_dropped := self._budget.take_dropped():
            self._tell(level, f"({nr_dropped} lines too many are left out)")
        # No arguments, which the journal's handler would send once more.
        self._tell(level, str(msg) % args if args else str(msg))

    def _tell(self, level: int, text: str) -> None:
        self.logger.log(level, f"{self._path}: {text}", extra=self._fields)
