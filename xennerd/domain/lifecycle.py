# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of a domain file, kept going as the file says, in its own process."""

from __future__ import annotations

import os
import re
import time
import uuid
from dataclasses import replace
from pathlib import Path

from xenner.journal import Event, Subject, set_up_logging, tell
from xenner.types import Domid, ShutdownReason
from xenner.vmcores import is_owned
from xenner.xlcfg import DomainConfig
from xennerd.domain.coredump import bury
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

_CGROUP = Path("/proc/self/cgroup")


class FileKeeper:
    """A Keeper: writes the domain's record, tells its story, has its end
    follow from the file's on_... keys."""

    def __init__(
        self,
        config: DomainConfig,
        record: Record,
        *,
        runtime_dir: Path,
        dump_dir: Path,
    ) -> None:
        """`record` is as planned_record() made it."""
        self._config = config
        self._record = record
        self._runtime_dir = runtime_dir
        self._dump_dir = dump_dir
        self._is_owner = False
        self._verdict: Verdict | None = None
        self.is_anew = False
        """It cannot be started again in its own memory: that stays as it is,
        or the domain has another file now."""
        self.is_left = False
        """It ended too often to be started again."""

    @property
    def _subject(self) -> Subject:
        record = self._record
        return Subject(record.domid, record.name, record.handle)

    def set_up_logging(self) -> None:
        """The journal, with the domain's fields."""
        set_up_logging(self._subject)

    def own(self, domid: Domid) -> None:
        """The record is written; the story begins. HostError: another that
        starts at this moment was faster to have its name or UUID."""
        record = self._record
        with records_locked(self._runtime_dir):
            check_others(self._runtime_dir, record)
            self._write_start()
        self._is_owner = True
        vcpus = f"{record.nr_vcpus} vCPU{'s' if record.nr_vcpus > 1 else ''}"
        tell(
            Event.CREATED,
            f"is created as domain {domid}: {record.memory_mib} MiB, "
            f"{vcpus}, from {record.file}",
            self._subject,
        )

    def run(self) -> None:
        """It has begun."""
        tell(Event.RUNNING, "is running", self._subject)

    def asked(self, by: str) -> None:
        """Why it is going to end, if it does."""
        tell(Event.ASKED, f"is asked to shut down by {by}", self._subject)

    def decide(self, end: End) -> bool:
        """By the file; an end that was asked for is one."""
        now_s = time.time()
        self._verdict = verdict = verdict_for(
            self._config,
            end.reason,
            starts_s=self._record.starts_s,
            now_s=now_s,
            is_asked=end.is_asked,
        )
        word = end.reason.name.lower().replace("_", "-")
        is_updated = self._is_updated()
        self._record = replace(self._record, end=word, ended_s=now_s)
        self.is_anew = verdict.restarts and (verdict.keeps or is_updated)
        is_crash = end.reason in (ShutdownReason.CRASH, ShutdownReason.WATCHDOG)
        tell(
            Event.CRASHED if is_crash else Event.ENDED,
            f"has ended: {word}, which means {verdict.action}",
            self._subject,
            XENNER_REASON=word,
        )
        self.is_left = verdict.is_braked
        if self.is_left:
            tell(Event.LEFT, "ends too often, is left alone", self._subject)
        return verdict.restarts and not self.is_anew

    def reset(self) -> bool:
        """By the record as it is now: it is no end, and nobody is braked."""
        tell(Event.AGAIN, "is reset", self._subject)
        self.is_anew = self._is_updated()
        if self.is_anew:
            write_record(self._runtime_dir, self._record)
        return not self.is_anew

    def settle(self, vmcore: Vmcore, said: bytes) -> None:
        """A core, and what stays. Then the next start, if there is one."""
        verdict = self._verdict
        assert verdict is not None
        bury(
            replace(self._record, last_words=said.decode("latin-1")),
            verdict,
            runtime_dir=self._runtime_dir,
            dump_dir=self._dump_dir,
        )
        if verdict.keeps and not verdict.renames:
            # What stays has the record now.
            self._is_owner = False
        if verdict.restarts:
            tell(Event.AGAIN, "is started again", self._subject)
            self._record = replace(self._record, end="", ended_s=0.0)
            if self.is_anew:
                # Its next process counts the start.
                write_record(self._runtime_dir, self._record)
            else:
                self._write_start()

    def _is_updated(self) -> bool:
        """`xennerctl config-update` and `rename` write into the record, and
        who plugs devices."""
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
        """As it is written down now."""
        return self._record

    def close(self) -> None:
        """The process ends, and its number is anybody's."""
        if self._is_owner and not self.is_anew:
            remove_record(self._runtime_dir, self._record.domid)

    def _write_start(self) -> None:
        starts_s = last_starts(self._record.starts_s, time.time())
        self._record = replace(self._record, starts_s=starts_s)
        write_record(self._runtime_dir, self._record)


def _source(record: Record) -> tuple[object, ...]:
    return record.file, record.text, record.settings, record.plugged


def unit_of_process() -> str:
    """The service manager's unit of this process if it is one of ours, by
    its cgroup (cgroups(7)); else empty."""
    try:
        text = _CGROUP.read_text()
    except OSError:
        return ""
    match = re.search(r"/(xenner@[^/\n]+\.service)(?:/|$)", text, re.M)
    return match[1] if match else ""


def check_others(runtime_dir: Path, record: Record) -> None:
    """HostError: another domain has the name or the UUID. The number is its
    vmcore's matter."""
    others = [
        other
        for other in list_records(runtime_dir)
        if other.domid != record.domid
        and (other.end or is_owned(runtime_dir / f"vmcore.{other.domid}"))
    ]
    check_unique(others, name=record.name, handle=record.handle)


def killed_domid(runtime_dir: Path, name: str) -> Domid | None:
    """The number that the domain had when its process was killed, if it is
    to go on with that; None: it was not."""
    for record in list_records(runtime_dir):
        is_dead = not is_owned(runtime_dir / f"vmcore.{record.domid}")
        if record.name == name and not record.end and is_dead:
            return record.domid
    return None


def killed_in_unit(runtime_dir: Path, unit: str) -> Record | None:
    """The domain that was killed in that unit, which goes on there: under the
    name that it was given, from what its configuration was updated to."""
    for record in list_records(runtime_dir):
        if (
            unit
            and record.unit == unit
            and not record.end
            and not is_owned(runtime_dir / f"vmcore.{record.domid}")
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
) -> Record:
    """The record of a domain that this process is about to start. One that
    was killed goes on with its UUID, and so with its addresses, and with the
    starts that it had."""
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
        unit=unit_of_process(),
        pid=os.getpid(),
        memory_mib=config.memory_mib,
        max_memory_mib=config.maxmem_mib,
        nr_vcpus=config.nr_vcpus,
        starts_s=before.starts_s if before else (),
        plugged=before.plugged if before else (),
    )
