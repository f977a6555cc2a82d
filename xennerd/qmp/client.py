# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of a VM process's monitor, or of xennerd. Calls block."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenner.errors import HostError

_LIMIT_S = 5.0
_MAX_ANSWER_BYTES = 4 << 20


class QmpRefusedError(HostError):
    """The server answered with an error, whose description is `reason`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


class QmpSilentError(HostError):
    """It is there, and has not answered in time."""


class QmpClient:
    """A connection, its capabilities negotiated; events are passed over."""

    def __init__(
        self,
        path: Path,
        *,
        server: str = "monitor",
        hint: str = "",
        limit_s: float | None = _LIMIT_S,
    ) -> None:
        """`server` is what errors call it, `hint` what helps when nobody
        answers there (HostError), `limit_s` how long it may take; None: as
        long as it takes."""
        self._where = f"{server} at {path}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with ExitStack() as on_fail:
            on_fail.callback(self._socket.close)
            self._socket.settimeout(limit_s)
            try:
                self._socket.connect(str(path))
            except BlockingIOError as error:
                # unix(7): others wait there already, and nobody accepts.
                raise self._silent() from error
            except OSError as error:
                raise HostError(
                    f"{self._where}: {error.strerror or error}", hint
                ) from error
            self._lines = self._socket.makefile("rb")
            on_fail.callback(self._lines.close)
            if "QMP" not in self._receive():
                raise HostError(f"{self._where}: this is not QMP")
            self.execute("qmp_capabilities")
            on_fail.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, name: str, /, **arguments: Any) -> Any:
        """What the command returns. QmpRefusedError with the monitor's text."""
        return self._execute(name, arguments)

    def give(self, fd: int, name: str) -> None:
        """A descriptor that commands take by that name; ours stays open."""
        self._execute("getfd", {"fdname": name}, [fd])

    def wait_event(self, name: str) -> dict[str, Any] | None:
        """What the next event of that name says, however long it takes; None:
        the server has gone."""
        self._socket.settimeout(None)
        with suppress(HostError):
            while (message := self._receive()).get("event") != name:
                pass
            data: dict[str, Any] = message.get("data", {})
            return data
        return None

    def _execute(
        self, name: str, arguments: dict[str, Any], fds: Sequence[int] = ()
    ) -> Any:
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        text = json.dumps(request).encode() + b"\n"
        try:
            nr_sent = socket.send_fds(self._socket, [text], fds) if fds else 0
            self._socket.sendall(text[nr_sent:])
        except OSError as error:
            raise self._gone(error) from error
        while True:
            message = self._receive()
            if "return" in message:
                return message["return"]
            if isinstance(problem := message.get("error"), dict):
                raise QmpRefusedError(
                    f"{self._where}: {name}", str(problem.get("desc"))
                )

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline(_MAX_ANSWER_BYTES)
            message = json.loads(line) if line else None
        except OSError as error:
            raise self._gone(error) from error
        except ValueError as error:
            raise HostError(f"{self._where}: this is not QMP") from error
        if not isinstance(message, dict):
            raise HostError(f"{self._where} closed the connection")
        return message

    def _gone(self, error: OSError) -> HostError:
        if isinstance(error, TimeoutError):
            return self._silent()
        return HostError(f"{self._where}: {error.strerror or error}")

    def _silent(self) -> QmpSilentError:
        return QmpSilentError(f"{self._where}: no answer")
