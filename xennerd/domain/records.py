# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written down of a domain, beside its vmcore: domain.<domid>.

The domain's own process writes it when the number is its own, and removes it
when it ends. A record whose domain does not live is that of one that was
killed, or, with an `end`, of one that stays until somebody destroys it.
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
    """A domain as its file had it. Times are of the wall clock, seconds.

    `file`, what stood in it when the domain was created (`text`), and
    `settings` are what it is started from, `unit` is the service manager's that
    it runs in, empty: none. `end`: why it is dead, and stays.
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
    """What it can have at most; 0: what it was started with."""
    nr_vcpus: int = 1
    starts_s: tuple[float, ...] = ()
    end: str = ""
    ended_s: float = 0.0
    plugged: tuple[str, ...] = ()
    """Devices, a line for each (hotplug.py)."""
    text: str | None = None
    """None: nobody has written it down; the file is read again."""
    last_words: str = ""
    """The end of what a dead one wrote on its console, a byte a character."""
    is_unwanted: bool = False
    """Whoever runs it ends its process, which does not answer."""


def write_record(runtime_dir: Path, record: Record) -> None:
    """Whole or not at all. HostError: it could not be written."""
    path = record_path(runtime_dir, record.domid)
    unready = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Its process, xennerd and who calls xennerctl are several users,
        # whatever their umask; the set-group-ID bit says whose group it is.
        # Nobody else reads what stands in somebody's domain file.
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
    """Write what `change` makes of it; None: there is none, and none is
    made. Two commands at a time would lose one's change, so one waits."""
    with records_locked(runtime_dir):
        record = read_record(runtime_dir, domid)
        if record is not None:
            record = change(record)
            write_record(runtime_dir, record)
        return record


@contextmanager
def records_locked(runtime_dir: Path) -> Iterator[None]:
    """Nobody else who asks for that changes records meanwhile."""
    fd = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove_record(runtime_dir: Path, domid: Domid) -> None:
    """One that is gone already is fine."""
    record_path(runtime_dir, domid).unlink(missing_ok=True)


def read_record(runtime_dir: Path, domid: Domid) -> Record | None:
    """None: there is none, or none that can be read."""
    try:
        with record_path(runtime_dir, domid).open("rb") as file:
            value = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return None
    return _checked(value, domid)


def check_unique(
    records: Iterable[Record], *, name: str, handle: str = ""
) -> None:
    """HostError, as xl's: a name is one domain's, and a UUID is. `records`:
    those of the others; `handle` empty: it will be its own. Pure."""
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
    """In the order of domains."""
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
    """What stands in a file may be anybody's, and of any version."""
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
