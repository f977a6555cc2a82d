# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done with a dead domain's memory: a core, a place to stay.

Whoever does it has the domain's number: its own process, or who holds the
lock on the dead vmcore (staleness.claimed()).
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
from xenner.types import Domid
from xennerd.domain.policy import Verdict
from xennerd.domain.records import Record, write_record
from xennerd.vm.memory.vmcore import keep
from xennerd.vm.monitor.dump import Dump, copy_core

DUMP_DIR = Path("/var/lib/xenner/dump")

_log = logging.getLogger("xenner")


def bury(
    record: Record, verdict: Verdict, *, runtime_dir: Path, dump_dir: Path
) -> None:
    """Do what was decided. `record` has the end, and says how the dead one is
    called from now on. A core that cannot be written is told of; HostError:
    the domain cannot stay."""
    vmcore = runtime_dir / f"vmcore.{record.domid}"
    if verdict.dumps:
        _dump(vmcore, record, dump_dir)
    if not verdict.keeps:
        return
    try:
        keep(vmcore)
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
        # The guest is at rest: this is its memory as it ended.
        with vmcore.open("rb") as source, target.open("xb") as copy:
            target.chmod(0o600)
            copy_core(os.dup(source.fileno()), os.dup(copy.fileno()), Dump())
    except OSError as error:
        _log.error("no core in %s: %s", target, error.strerror)
    else:
        _log.warning("core in %s", target)


def _new_number(vmcore: Path) -> Domid:
    """The dead one's new number, which nobody has; its old one is free then."""
    for number in count(1):
        try:
            os.link(vmcore, vmcore.with_name(f"vmcore.{number}"))
        except FileExistsError:
            continue
        vmcore.unlink()
        return Domid(number)
    raise AssertionError


def _renamed(record: Record, domid: Domid) -> Record:
    """As xl names it, by the time of its end, and with a UUID of its own:
    the new one goes on with its name and its UUID."""
    stamp = time.strftime("-%Y%m%dT%H%MZ", time.gmtime(record.ended_s))
    return replace(
        record,
        domid=domid,
        name=record.name + stamp,
        handle=str(uuid.uuid4()),
    )
