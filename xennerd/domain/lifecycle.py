# SPDX-License-Identifier: GPL-2.0-or-later
"""The lifecycle policy of a domain file, carried out by the domain's
process."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

from xenner.journal import Event, Subject, log_event, set_up_logging
from xenner.paths import vmcore_path
from xenner.types import Domid, ShutdownReason
from xenner.vmcorelocks import is_owned
from xenner.xlcfg import DomainConfig
from xennerd.domain.coredump import dump_and_preserve
from xennerd.domain.policy import Verdict, last_starts, verdict_for
from xennerd.domain.records import (
    Record,
    check_unique,
    list_records,
    read_record,
    records_locked,
    remove_record,
    write_record,
)
from xennerd.vm.lifecycle import End
from xennerd.vm.memory.vmcore import Vmcore


class FileLifecyclePolicy:
    """A LifecyclePolicy that follows the file's on_... keys, writes the
    domain's record and logs its events."""

    def __init__(
        self,
        config: DomainConfig,
        record: Record,
        *,
        runtime_dir: Path,
        dump_dir: Path,
    ) -> None:
        """`record` comes from planned_record()."""
        self._config = config
        self._record = record
        self._runtime_dir = runtime_dir
        self._dump_dir = dump_dir
        self._is_owner = False
        self._verdict: Verdict | None = None
        self.needs_reexec = False
        """The next start needs a new process: the old memory is preserved, or
        the domain's file has changed."""
        self.hits_start_limit = False
        """The domain ended too often: it does not restart."""

    @property
    def _subject(self) -> Subject:
        record = self._record
        return Subject(record.domid, record.name, record.handle)

    def set_up_logging(self) -> None:
        """Log to the journal, with the domain's fields."""
        set_up_logging(self._subject)

    def on_created(self, domid: Domid) -> None:
        """Write the record, log the creation. HostError: another domain that
        starts at the same time took the name or the UUID first."""
        record = self._record
        with records_locked(self._runtime_dir):
            check_others(self._runtime_dir, record)
            self._write_start()
        self._is_owner = True
        vcpus = f"{record.nr_vcpus} vCPU{'s' if record.nr_vcpus > 1 else ''}"
        log_event(
            Event.CREATED,
            f"is created as domain {domid}: {record.memory_mib} MiB, "
            f"{vcpus}, from {record.file}",
            self._subject,
        )

    def on_running(self) -> None:
        """Log that the guest runs."""
        log_event(Event.RUNNING, "is running", self._subject)

    def on_shutdown_request(self, by: str) -> None:
        """Log the request."""
        log_event(
            Event.SHUTDOWN_REQUESTED,
            f"is asked to shut down by {by}",
            self._subject,
        )

    def decide_restart(self, end: End) -> bool:
        """By the file; a requested end is final."""
        now_s = time.time()
        self._verdict = verdict = verdict_for(
            self._config,
            end.reason,
            starts_s=self._record.starts_s,
            now_s=now_s,
            is_stop_requested=end.is_stop_requested,
        )
        word = end.reason.name.lower().replace("_", "-")
        is_updated = self._take_updates()
        self._record = replace(self._record, end=word, ended_s=now_s)
        self.needs_reexec = verdict.restarts and (
            verdict.preserves or is_updated
        )
        is_crash = end.reason in (ShutdownReason.CRASH, ShutdownReason.WATCHDOG)
        log_event(
            Event.CRASHED if is_crash else Event.ENDED,
            f"has ended: {word}, which means {verdict.action}",
            self._subject,
            XENNER_REASON=word,
        )
        self.hits_start_limit = verdict.hits_start_limit
        if self.hits_start_limit:
            log_event(
                Event.START_LIMIT_HIT,
                "ends too often, is left alone",
                self._subject,
            )
        return verdict.restarts and not self.needs_reexec

    def on_reset(self) -> bool:
        """By the current record. A reset is no end: no start limit applies."""
        log_event(Event.RESTARTED, "is reset", self._subject)
        self.needs_reexec = self._take_updates()
        if self.needs_reexec:
            write_record(self._runtime_dir, self._record)
        return not self.needs_reexec

    def carry_out(self, vmcore: Vmcore, last_words: bytes) -> None:
        """Dump and preserve what the verdict says, then record the next
        start."""
        verdict = self._verdict
        assert verdict is not None
        dump_and_preserve(
            replace(self._record, last_words=last_words.decode("latin-1")),
            verdict,
            runtime_dir=self._runtime_dir,
            dump_dir=self._dump_dir,
        )
        if verdict.preserves and not verdict.renames:
            # The record is the preserved domain's now.
            self._is_owner = False
        if verdict.restarts:
            log_event(Event.RESTARTED, "is started again", self._subject)
            self._record = replace(self._record, end="", ended_s=0.0)
            if self.needs_reexec:
                # Its next process counts the start.
                write_record(self._runtime_dir, self._record)
            else:
                self._write_start()

    def _take_updates(self) -> bool:
        """Take over what others wrote into the record: `xennerctl
        config-update`, `rename`, and hot-plug. True: there was something."""
        now = read_record(self._runtime_dir, self._record.domid)
        if now is None or _source(now) == _source(self._record):
            return False
        self._record = replace(
            self._record,
            name=now.name,
            file=now.file,
            settings=now.settings,
            text=now.text,
            plugged=now.plugged,
        )
        return True

    @property
    def record(self) -> Record:
        """The record as last written."""
        return self._record

    def close(self) -> None:
        """The process ends and gives up the domain's number."""
        if self._is_owner and not self.needs_reexec:
            remove_record(self._runtime_dir, self._record.domid)

    def _write_start(self) -> None:
        starts_s = last_starts(self._record.starts_s, time.time())
        self._record = replace(self._record, starts_s=starts_s)
        write_record(self._runtime_dir, self._record)


def _source(record: Record) -> tuple[object, ...]:
    return record.file, record.text, record.settings, record.plugged


def check_others(runtime_dir: Path, record: Record) -> None:
    """HostError: another domain has the name or the UUID. The lock on the
    vmcore guards the number."""
    others = [
        other
        for other in list_records(runtime_dir)
        if other.domid != record.domid
        and (other.end or is_owned(vmcore_path(runtime_dir, other.domid)))
    ]
    check_unique(others, name=record.name, handle=record.handle)


def killed_domid(runtime_dir: Path, name: str) -> Domid | None:
    """The number of the domain of that name whose process was killed; None:
    there is none."""
    for record in list_records(runtime_dir):
        is_dead = not is_owned(vmcore_path(runtime_dir, record.domid))
        if record.name == name and not record.end and is_dead:
            return record.domid
    return None


def killed_in_unit(runtime_dir: Path, unit: str) -> Record | None:
    """The domain whose process was killed in that unit. It restarts there
    with its current name and configuration."""
    for record in list_records(runtime_dir):
        if (
            unit
            and record.unit == unit
            and not record.end
            and not is_owned(vmcore_path(runtime_dir, record.domid))
            and (record.text is not None or os.access(record.file, os.R_OK))
        ):
            return record
    return None


def planned_record(
    config: DomainConfig,
    domid: Domid,
    *,
    runtime_dir: Path,
    file: Path,
    text: str,
    settings: str,
    unit: str = "",
) -> Record:
    """The record of a domain that this process is about to start. A domain
    whose process was killed keeps its UUID, and so its MAC addresses, and its
    list of starts."""
    before = read_record(runtime_dir, domid)
    if before is not None and (before.name != config.name or before.end):
        before = None
    handle = str(config.handle or uuid.uuid4())
    if before is not None and not config.handle:
        handle = before.handle
    return Record(
        domid=domid,
        name=config.name,
        handle=handle,
        file=str(file),
        text=text,
        settings=settings,
        unit=unit,
        pid=os.getpid(),
        memory_mib=config.memory_mib,
        max_memory_mib=config.maxmem_mib,
        nr_vcpus=config.nr_vcpus,
        starts_s=before.starts_s if before else (),
        plugged=before.plugged if before else (),
    )
