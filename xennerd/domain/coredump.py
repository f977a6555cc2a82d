# SPDX-License-Identifier: GPL-2.0-or-later
"""Dump a dead domain's memory to a core file, or preserve the domain.

The caller owns the domain's number: it is the domain's own process, or holds
the lock on the dead vmcore (xennerd.cleanup.liveness.domid_held()).
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from dataclasses import replace
from itertools import count
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import vmcore_path
from xenner.types import Domid
from xenner.vmcorelocks import preserve
from xennerd.domain.policy import Verdict
from xennerd.domain.records import Record, write_record
from xennerd.vm.monitor.dump import Dump, copy_core

_log = logging.getLogger("xenner")


def dump_and_preserve(
    record: Record, verdict: Verdict, *, runtime_dir: Path, dump_dir: Path
) -> None:
    """Carry out the verdict. `record` has the domain's end. A core file that
    cannot be written is only logged; HostError: the domain cannot be
    preserved."""
    vmcore = vmcore_path(runtime_dir, record.domid)
    if verdict.coredumps:
        _dump(vmcore, record, dump_dir)
    if not verdict.preserves:
        return
    try:
        preserve(vmcore)
        if verdict.renames:
            record = _renamed(record, _new_number(vmcore))
    except OSError as error:
        raise HostError(
            f"{record.name}: cannot stay: {error.strerror}"
        ) from error
    write_record(runtime_dir, record)
    _log.warning(
        "stays as domain %d, %s: xennerctl destroy ends that",
        record.domid,
        record.name,
    )


def _dump(vmcore: Path, record: Record, dump_dir: Path) -> None:
    stamp = time.strftime("%Y-%m%d-%H%M.%S", time.localtime(record.ended_s))
    target = dump_dir / f"{stamp}-{record.name}.core"
    try:
        dump_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The guest has stopped: nothing changes its memory any more.
        with vmcore.open("rb") as source, target.open("xb") as copy:
            target.chmod(0o600)
            copy_core(os.dup(source.fileno()), os.dup(copy.fileno()), Dump())
    except OSError as error:
        _log.error("no core in %s: %s", target, error.strerror)
    else:
        _log.warning("core in %s", target)


def _new_number(vmcore: Path) -> Domid:
    """Move the dead domain to the lowest free number; its old one is free."""
    for number in count(1):
        try:
            os.link(vmcore, vmcore_path(vmcore.parent, Domid(number)))
        except FileExistsError:
            continue
        vmcore.unlink()
        return Domid(number)
    raise AssertionError


def _renamed(record: Record, domid: Domid) -> Record:
    """Name the dead domain after the time of its end, as xl does, and give it
    a new UUID: the restarted domain keeps the old name and UUID."""
    stamp = time.strftime("-%Y%m%dT%H%MZ", time.gmtime(record.ended_s))
    return replace(
        record,
        domid=domid,
        name=record.name + stamp,
        handle=str(uuid.uuid4()),
    )
