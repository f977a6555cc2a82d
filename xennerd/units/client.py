# SPDX-License-Identifier: GPL-2.0-or-later
"""Units, by way of xenner-units: for an xennerd that is not root."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from xenner.errors import HostError
from xenner.journal import Line, Subject
from xenner.paths import UNITS_SOCKET
from xennerd.qmp.client import QmpClient, QmpRefusedError
from xennerd.units.manager import Outcome

# Longer than a unit may take to start.
_LIMIT_S = 150.0
# Less than the server takes at a time.
_MAX_AT_ONCE = 8

_log = logging.getLogger("xennerd")


class UnitsByHelper:
    """A connection for each call: nothing is noticed of a restart."""

    def __init__(self, path: Path = UNITS_SOCKET) -> None:
        self._path = path
        self._room = threading.BoundedSemaphore(_MAX_AT_ONCE)

    def start(self, instance: str) -> None:
        self._ask("unit-start", instance=instance)

    def outcome(self, instance: str) -> Outcome:
        answer = self._ask("query-unit", instance=instance)
        return Outcome(str(answer["state"]), str(answer["result"]))

    def log_event(self, instance: str, subject: Subject, line: Line) -> None:
        try:
            self._ask(
                "unit-tell",
                **line._asdict(),
                domid=subject.domid,
                name=subject.name,
                uuid=subject.handle,
                instance=instance,
            )
        except HostError as error:
            _log.warning(
                "%s: %s (not told: %s)", subject.name, line.text, error
            )

    def _ask(self, command: str, **arguments: Any) -> Any:
        with (
            self._room,
            QmpClient(
                self._path, server="xenner-units", limit_s=_LIMIT_S
            ) as client,
        ):
            try:
                return client.execute(command, **arguments)
            except QmpRefusedError as error:
                raise HostError(error.reason) from None
