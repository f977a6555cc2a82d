# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd's control commands; docs/protocol.md describes them for clients."""

from __future__ import annotations

import pwd
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from xenner.errors import ConfigError, HostError
from xenner.journal import REQUESTS, request_line
from xenner.types import MAX_DOMID, Domid
from xennerd.domain.file import MAX_BYTES, config_of, read_text
from xennerd.domain.records import Record, check_unique
from xennerd.qmp.commands import Command, Commands, without_arguments
from xennerd.qmp.fds import Caller
from xennerd.qmp.request import Parameter, QmpError
from xennerd.supervisor.daemons import State
from xennerd.supervisor.domains import Domains
from xennerd.supervisor.launcher import StartRequest

EVENTS = ("DAEMON_ENDED", "DAEMON_STARTED", "DOMAIN_ENDED", "DOMAIN_STARTED")
PROTOCOL = 1
"""Counts what clients would notice; see docs/protocol.md."""


class Control(Commands):
    """xennerd's commands. Holds the daemons' states; under systemd there are
    none."""

    # A character of a file takes at most six bytes of JSON.
    max_request_bytes = 6 * MAX_BYTES + (64 << 10)

    def __init__(self) -> None:
        self._domains: Domains | None = None
        self._daemons: dict[str, State] = {}
        self._starting: list[StartRequest] = []
        text, flag = Parameter(str), Parameter(bool, is_optional=True)
        super().__init__(
            {
                "query-protocol": without_arguments(
                    lambda: {"version": PROTOCOL}
                ),
                "query-domains": without_arguments(self._query_domains),
                "query-daemons": without_arguments(self._query_daemons),
                "domain-create": Command(
                    self._create,
                    {
                        "file": text,
                        **dict.fromkeys(
                            ("text", "settings"),
                            Parameter(str, is_optional=True),
                        ),
                        "paused": flag,
                        "domid": Parameter(int, is_optional=True),
                    },
                ),
                "domain-asked": Command(
                    self._asked, {"domid": Parameter(int), "what": text}
                ),
            },
            events=EVENTS,
        )

    def serve(self, domains: Domains) -> None:
        """Serve the commands about domains from now on."""
        self._domains = domains

    def daemon_changed(self, state: State) -> None:
        """A daemon started or ended: emit an event."""
        self._daemons[state.name] = state
        event = "DAEMON_STARTED" if state.pid else "DAEMON_ENDED"
        self.emit(event, name=state.name, pid=state.pid)

    def _query_domains(self) -> Any:
        domains = self._ready()
        return [
            _described(record, is_alive=domains.is_alive(record))
            for record in domains.records()
        ]

    def _query_daemons(self) -> Any:
        return [
            {
                "name": state.name,
                "pid": state.pid,
                "running": bool(state.pid),
                "restarts": state.nr_restarts,
            }
            for state in self._daemons.values()
        ]

    async def _create(self, arguments: dict[str, Any], _caller: Caller) -> Any:
        domains = self._ready()
        request = _checked_request(arguments)
        others = [
            record
            for record in domains.records()
            if record.end or domains.is_alive(record)
        ]
        try:
            check_unique(others, name=request.name, handle=request.handle)
        except HostError as error:
            raise QmpError(str(error)) from None
        # Starts that have no record yet.
        for other in self._starting:
            if other.name == request.name:
                raise QmpError(
                    f'Domain with name "{request.name}" already exists.'
                )
            if request.handle and other.handle == request.handle:
                raise QmpError(f"uuid {request.handle} is that of {other.name}")
        self._starting.append(request)
        try:
            await _done(domains.start(request))
        finally:
            self._starting.remove(request)
        for record in domains.records():
            if record.name == request.name and domains.is_alive(record):
                return _described(record, is_alive=True)
        # It ran and has ended already.
        return {
            **_described(_ended_record(request), is_alive=False),
            "state": "ended",
        }

    async def _asked(self, arguments: dict[str, Any], caller: Caller) -> Any:
        """Log who requested an end. Only root can log for a unit, so others
        have xennerd do it, under the user name of the socket's peer."""
        domains = self._ready()
        what = arguments["what"]
        if what not in REQUESTS:
            raise QmpError(f"what {what!r}: one of {', '.join(REQUESTS)}")
        for record in domains.records():
            if record.domid == arguments["domid"]:
                await domains.log_event(
                    record, request_line(what, _user(caller.uid))
                )
                return {}
        raise QmpError(f"domid {arguments['domid']}: no such domain")

    def _ready(self) -> Domains:
        if self._domains is None:
            raise QmpError("xennerd is starting: ask again in a moment")
        return self._domains


def _checked_request(arguments: dict[str, Any]) -> StartRequest:
    file = Path(arguments["file"])
    settings, text = arguments.get("settings", ""), arguments.get("text")
    domid = arguments.get("domid")
    if not file.is_absolute():
        raise QmpError(f"{file}: xennerd needs a path from the root on")
    if domid is not None and not 0 < domid <= MAX_DOMID:
        raise QmpError(f"domid {domid}: between 1 and {MAX_DOMID}")
    try:
        if text is None:
            text = read_text(file)
        elif len(text.encode(errors="surrogateescape")) > MAX_BYTES:
            raise QmpError(f"text: more than {MAX_BYTES >> 10} KiB")
        config = config_of(text, file, extra=settings)
    except ConfigError as error:
        raise QmpError(str(error)) from None
    return StartRequest(
        name=config.name,
        file=file,
        settings=settings,
        domid=None if domid is None else Domid(domid),
        is_paused=arguments.get("paused", False),
        text=text,
        handle=str(config.handle or ""),
    )


def _ended_record(request: StartRequest) -> Record:
    """A record of a domain that is gone: the request's fields, no number."""
    return Record(
        Domid(0),
        request.name,
        request.handle,
        str(request.file),
        request.settings,
    )


def _user(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else "nobody"
    except KeyError:
        return f"user {uid}"


async def _done(call: Awaitable[None]) -> None:
    try:
        await call
    except (ConfigError, HostError) as error:
        raise QmpError(str(error)) from None


def _described(record: Record, *, is_alive: bool) -> dict[str, Any]:
    state = "running" if is_alive else "ended" if record.end else "killed"
    return {
        "domid": record.domid,
        "name": record.name,
        "uuid": record.handle,
        "state": state,
        "end": record.end,
        "file": record.file,
        "settings": record.settings,
        "unit": record.unit,
        "pid": record.pid if is_alive else 0,
        "memory-mib": record.memory_mib,
        "vcpus": record.nr_vcpus,
        "starts": list(record.starts_s),
    }
