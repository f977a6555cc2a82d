# SPDX-License-Identifier: GPL-2.0-or-later
"""Handle domains whose process was killed. Calls block."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from xenner.errors import ConfigError
from xenner.journal import Event, Line
from xenner.paths import Paths
from xenner.types import ShutdownReason
from xenner.vmcorelocks import domid_held
from xenner.xlcfg import Action, DomainConfig
from xennerd.cleanup import scan
from xennerd.cleanup.classify import Kind, classify
from xennerd.cleanup.remove import remove
from xennerd.domain.coredump import dump_and_preserve
from xennerd.domain.file import config_of_record
from xennerd.domain.policy import Verdict, verdict_for
from xennerd.domain.records import Record, remove_record
from xennerd.supervisor.events import LogEvent

_log = logging.getLogger("xennerd")


@dataclass(frozen=True, slots=True)
class CrashHandler:
    """Does for a killed domain what its own process would have done."""

    paths: Paths
    log_event: LogEvent

    def handle(self, record: Record, *, is_stop_requested: bool) -> Verdict:
        """Log the end, dump and preserve, and remove what is left. The verdict
        says whether to restart the domain.

        `is_stop_requested`: the domain was being stopped. DomainAliveError:
        another process owns the number now. HostError, OSError: handling
        failed.
        """
        runtime_dir = self.paths.runtime_dir
        now_s = time.time()
        with domid_held(record.domid, runtime_dir):
            verdict = self._decide(
                record, now_s=now_s, is_stop_requested=is_stop_requested
            )
            self._log_verdict(
                record, verdict, is_stop_requested=is_stop_requested
            )
            dump_and_preserve(
                replace(record, end="killed", ended_s=now_s),
                verdict,
                runtime_dir=runtime_dir,
                dump_dir=self.paths.dump_dir,
            )
            self._remove_rest(record)
            if not verdict.preserves or verdict.renames:
                remove_record(runtime_dir, record.domid)
        return verdict

    def _log_verdict(
        self, record: Record, verdict: Verdict, *, is_stop_requested: bool
    ) -> None:
        text = f"its process was killed, which means {verdict.action}"
        if is_stop_requested:
            text = "did not stop in time: its process was killed"
            if record.is_unwanted:
                text = "did not answer: its process was killed"
        self.log_event(record, Line(Event.CRASHED, text, reason="killed"))
        if verdict.hits_start_limit:
            text = "ends too often, is left alone"
            self.log_event(record, Line(Event.START_LIMIT_HIT, text))
        elif verdict.restarts:
            self.log_event(record, Line(Event.RESTARTED, "is started again"))

    def _decide(
        self, record: Record, *, now_s: float, is_stop_requested: bool
    ) -> Verdict:
        config = config_at_start(record)
        if config is None:
            return Verdict(Action.DESTROY)
        return verdict_for(
            config,
            ShutdownReason.CRASH,
            starts_s=record.starts_s,
            now_s=now_s,
            is_stop_requested=is_stop_requested,
        )

    def _remove_rest(self, record: Record) -> None:
        """Remove its nodes, so that backends close its devices, and its files
        beside the vmcore; systemd removes the cgroup."""
        host = scan.Host(self.paths)
        leftovers, notes = scan.scan_host(host)
        for note in notes:
            _log.warning("%s: %s", record.name, note)
        own = [
            leftover
            for leftover in leftovers
            if leftover.domid == record.domid
            and leftover.kind not in (Kind.CGROUP, Kind.RECORD, Kind.TAP)
        ]
        for verdict in classify(
            own, live=frozenset(), removes_preserved=False, doubt=""
        ):
            if verdict.is_removable:
                remove(verdict.leftover, host)


def config_at_start(record: Record) -> DomainConfig | None:
    """The configuration that the domain was started from. None: it cannot be
    read any more, which is logged."""
    try:
        return config_of_record(record)
    except ConfigError as error:
        _log.error("%s: %s", record.name, error)
    return None
