# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's record, a file beside its vmcore: domain.<domid>.

The domain's own process writes it once it owns the number, and removes it when
it ends. If no process owns the vmcore, the domain's process was killed; or the
record has an `end`, and the domain is preserved until somebody destroys it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xenner.errors import HostError
from xenner.paths import record_path
from xenner.types import Domid

_NAME = re.compile(r"domain\.([1-9][0-9]{0,4})")
# Of a domain file, whose characters may take six bytes each, and the rest.
_MAX_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """A domain. Times are wall clock seconds.

    The domain starts from `file`, the file's content at the creation (`text`),
    and `settings`. `unit` is the systemd unit that it runs in, empty: none.
    `end`: why a preserved domain ended.
    """

    domid: Domid
    name: str
    handle: str
    file: str
    settings: str = ""
    unit: str = ""
    pid: int = 0
    memory_mib: int = 0
    max_memory_mib: int = 0
    """The maximum; 0: the same as memory_mib."""
    nr_vcpus: int = 1
    starts_s: tuple[float, ...] = ()
    end: str = ""
    ended_s: float = 0.0
    plugged: tuple[str, ...] = ()
    """Devices, a line for each (hotplug.py)."""
    text: str | None = None
    """None: not recorded; a restart reads the file again."""
    last_words: str = ""
    """The end of a dead domain's console output, one character per byte."""
    is_unwanted: bool = False
    """`xennerctl destroy` kills its process, which does not answer."""


def write_record(runtime_dir: Path, record: Record) -> None:
    """Write atomically. HostError: it could not be written."""
    path = record_path(runtime_dir, record.domid)
    unready = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # The VM process, xennerd and callers of xennerctl may be different
        # users of one group, with any umask; the set-group-ID bit says so.
        # Others must not read the content of a domain file.
        is_shared = runtime_dir.stat().st_mode & stat.S_ISGID
        unready.touch(mode=0o600)
        unready.chmod(0o660 if is_shared else 0o600)
        unready.write_text(json.dumps(asdict(record)) + "\n")
        unready.rename(path)
    except OSError as error:
        with suppress(OSError):
            unready.unlink()
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def change_record(
    runtime_dir: Path, domid: Domid, change: Callable[[Record], Record]
) -> Record | None:
    """Replace the record with `change(record)`; None: there is no record. Holds
    the lock, so that concurrent changes do not overwrite each other."""
    with records_locked(runtime_dir):
        record = read_record(runtime_dir, domid)
        if record is not None:
            record = change(record)
            write_record(runtime_dir, record)
        return record


@contextmanager
def records_locked(runtime_dir: Path) -> Iterator[None]:
    """Hold the lock under which records change."""
    fd = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove_record(runtime_dir: Path, domid: Domid) -> None:
    """Remove the record if it exists."""
    record_path(runtime_dir, domid).unlink(missing_ok=True)


def read_record(runtime_dir: Path, domid: Domid) -> Record | None:
    """None: there is no record, or it cannot be read."""
    try:
        with record_path(runtime_dir, domid).open("rb") as file:
            value = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return None
    return _checked(value, domid)


def check_unique(
    records: Iterable[Record], *, name: str, handle: str = ""
) -> None:
    """HostError, as xl's: another domain has the name or the UUID. `records`
    are the other domains'; an empty `handle` is unique. Pure."""
    for record in records:
        if record.name == name:
            raise HostError(
                f'Domain with name "{name}" already exists.',
                f"as domain {record.domid}",
            )
        if handle and record.handle.lower() == handle:
            raise HostError(
                f"uuid {handle} is that of {record.name}, domain "
                f"{record.domid}",
                "give this one another, or none: it has one of its own then",
            )


def list_records(runtime_dir: Path) -> list[Record]:
    """All records, sorted by domid."""
    return sorted(_records(runtime_dir), key=lambda record: record.domid)


def _records(runtime_dir: Path) -> Iterator[Record]:
    try:
        names = os.listdir(runtime_dir)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if match := _NAME.fullmatch(name):
            record = read_record(runtime_dir, Domid(int(match[1])))
            if record is not None:
                yield record


def _checked(value: Any, domid: Domid) -> Record | None:
    """Check a record: any process, of any version, may have written it."""
    if not isinstance(value, dict) or value.get("domid") != domid:
        return None
    starts = value.get("starts_s", [])
    plugged = value.get("plugged", [])
    if not isinstance(starts, list) or not isinstance(plugged, list):
        return None
    known = {field.name for field in fields(Record)}
    words = {name: v for name, v in value.items() if name in known}
    words["starts_s"] = tuple(starts)
    words["plugged"] = tuple(plugged)
    try:
        record = Record(**words)
    except TypeError:
        return None
    texts = (record.name, record.handle, record.file, record.settings)
    numbers = (
        *(record.pid, record.memory_mib, record.max_memory_mib),
        *(record.nr_vcpus, record.ended_s),
    )
    is_right = all(
        isinstance(text, str)
        for text in (
            *texts,
            record.end,
            record.unit,
            record.text or "",
            record.last_words,
            *plugged,
        )
    ) and all(isinstance(n, int | float) for n in (*numbers, *starts))
    return record if is_right else None
