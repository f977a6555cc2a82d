# SPDX-License-Identifier: GPL-2.0-or-later
"""How a domain's process comes to be: the one place where running by hand
and under systemd differ."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Container, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Protocol

from xenner.errors import ConfigError, HostError
from xenner.types import Domid
from xenner.unitname import escaped
from xennerd.domain.file import read_text
from xennerd.domain.records import Record, list_records
from xennerd.supervisor.programs import Places
from xennerd.units.manager import Units, instance_of, is_instance

_READY_LIMIT_S = 120.0
_EXIT_CONFIG = 2
_SETTLED_LIMIT_S = 10.0
_SETTLED_LOOK_S = 0.05
# systemd's states of a unit whose guest has just ended.
_ENDING = ("active", "reloading", "deactivating")
_CONFIG_DIR = Path("/etc/xenner")


@dataclass(frozen=True, slots=True)
class Order:
    """A guest to be started. `file` is absolute, and `text` what stands in it
    where that is known already; `settings` win over it. `domid` None: one that
    is free, or the file's name. `unit` is where it ran before: it goes on
    there. `is_again`: it was killed, and all that it is started from stands in
    its record."""

    name: str
    file: Path
    settings: str = ""
    domid: Domid | None = None
    is_paused: bool = False
    text: str | None = None
    handle: str = ""
    unit: str = ""
    is_again: bool = False


class Launcher(Protocol):
    """Calls block, and may be made in several threads."""

    def start(self, order: Order) -> None:
        """Return when the guest runs, or is paused before its first
        instruction. HostError: it does not, and why; ConfigError: nor will
        it."""

    def was_asked(self, record: Record) -> bool:
        """Did whoever runs a domain that was killed want it to end?"""

    def forget(self, record: Record) -> None:
        """A domain has ended, and is not started again."""


class ByHand:
    """Processes of ours, which outlive us, each with a log of its own."""

    def __init__(
        self, places: Places, *, environment: Mapping[str, str], log_dir: Path
    ) -> None:
        self._places = places
        self._environment = environment
        self._log_dir = log_dir
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, order: Order) -> None:
        """The log has the reason if it does not start."""
        self._log_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        log = self._log_dir / f"guest-{order.name}.log"
        with ExitStack() as stack:
            directory = stack.enter_context(TemporaryDirectory("xennerd"))
            ready = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            )
            ready.bind(f"{directory}/notify")
            output = stack.enter_context(log.open("ab"))
            begin = output.tell()
            given = stack.enter_context(TemporaryFile())
            given.write((order.text or "").encode(errors="surrogateescape"))
            given.seek(0)
            child = subprocess.Popen(
                [str(word) for word in self._words(order)],
                env={
                    **self._environment,
                    "NOTIFY_SOCKET": f"{directory}/notify",
                },
                stdin=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            if _is_ready(ready, child):
                self._children.append(child)
                return
        with log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode(errors="replace").splitlines()
        reason = lines[-1] if lines else "no word of it"
        text = f"{reason.removeprefix('xenner-start: ')} (log: {log})"
        raise (
            ConfigError(text)
            if child.returncode == _EXIT_CONFIG
            else HostError(text)
        )

    def was_asked(self, record: Record) -> bool:
        """Who kills a process does not say why."""
        return False

    def forget(self, record: Record) -> None:
        """Those that have ended are nobody's zombies."""
        self._children = [
            child for child in self._children if child.poll() is None
        ]

    def _words(self, order: Order) -> list[str | Path]:
        places = self._places
        domid = () if order.domid is None else ("--domid", str(order.domid))
        return [
            *(sys.executable, "-m", "xennerd.domain.start"),
            *("--runtime-dir", places.runtime_dir),
            *("--evtchnd", places.evtchnd, "--xenstore", places.xenstore),
            *(f"--set={order.settings}", *domid),
            *(["--paused"] if order.is_paused else []),
            *self._source(order),
            order.file,
        ]

    def _source(self, order: Order) -> list[str]:
        if order.is_again:
            return ["--again"]
        return [] if order.text is None else ["--stdin"]


def _is_ready(ready: socket.socket, child: subprocess.Popen[bytes]) -> bool:
    """Wait for the guest's first instruction, or for the end of the child."""
    pidfd = os.pidfd_open(child.pid)
    try:
        while True:
            found, _, _ = select.select(
                [ready.fileno(), pidfd], [], [], _READY_LIMIT_S
            )
            if ready.fileno() not in found:
                if not found:
                    child.terminate()
                child.wait()
                return False
            if b"READY=1" in ready.recv(4096).split(b"\n"):
                return True
    finally:
        os.close(pidfd)


class BySystemd:
    """Units: xenner@NAME.service, of the file /etc/xenner/NAME.cfg or of one
    that we write for it."""

    def __init__(
        self, places: Places, units: Units, *, config_dir: Path = _CONFIG_DIR
    ) -> None:
        self._units = units
        self._config_dir = config_dir
        self._runtime_dir = places.runtime_dir
        self._own_dir = places.runtime_dir / "config"
        # Of the orders that are being carried out, by their names.
        self._starting: Counter[str] = Counter()
        self._files = threading.Lock()

    def start(self, order: Order) -> None:
        """The journal has the reason if it does not start."""
        with self._files:
            # What it is started from stands in its record, its name too.
            instance = instance_of(order.unit) or self._instance(order)
            if order.is_again:
                self._give_file(instance, order)
            self._starting[instance] += 1
        try:
            self._start(instance, order)
        finally:
            with self._files:
                self._starting[instance] -= 1

    def _start(self, instance: str, order: Order) -> None:
        paused = self._own_dir / f"{instance}.paused"
        # To start one that is still ending itself does nothing.
        self._settled(instance, _ENDING)
        # One that was killed meanwhile may have left its own.
        paused.unlink(missing_ok=True)
        if order.is_paused:
            self._write(paused, "")
        try:
            self._units.start(instance)
        finally:
            with suppress(FileNotFoundError):
                paused.unlink()

    def was_asked(self, record: Record) -> bool:
        """A unit that was killed because it took too long to stop was
        stopping."""
        instance, result = instance_of(record.unit), ""
        if instance:
            # The service manager learns of the end as we do; one that is
            # starting itself is there again in a moment.
            result = self._settled(instance, (*_ENDING, "activating", ""))
        return result in ("timeout", "success")

    def _settled(self, instance: str, moving: Container[str]) -> str:
        """A unit's result, when it is in none of these states or has been in
        them for too long."""
        deadline_s = time.monotonic() + _SETTLED_LIMIT_S
        result = ""
        while time.monotonic() < deadline_s:
            state = ""
            with suppress(HostError):
                state, result = self._units.outcome(instance)
            if state not in moving:
                break
            time.sleep(_SETTLED_LOOK_S)
        return result

    def forget(self, record: Record) -> None:
        """What we wrote for it goes, if it is not the next one's by now."""
        instance = instance_of(record.unit)
        if not instance:
            return
        with self._files:
            is_next_s = self._starting[instance] or any(
                other.unit == record.unit
                and not other.end
                and other.pid != record.pid
                for other in list_records(self._runtime_dir)
            )
            if not is_next_s:
                (self._own_dir / f"{instance}.cfg").unlink(missing_ok=True)

    def _give_file(self, instance: str, order: Order) -> None:
        """A unit is not started without one, though nothing is read there."""
        own = self._own_dir / f"{instance}.cfg"
        known = (self._config_dir / f"{instance}.cfg", own)
        if order.text is not None and not any(map(Path.exists, known)):
            self._write(own, f"{order.text}\n{order.settings}\n")

    def _instance(self, order: Order) -> str:
        """The unit's, whose file is there."""
        known = (self._config_dir, self._own_dir)
        is_known = order.file.parent in known and order.file.suffix == ".cfg"
        if is_known and not order.settings:
            return order.file.stem
        name = escaped(order.name)
        if not is_instance(name):
            raise HostError(f"{order.name}: no unit can have such a name")
        taken = self._config_dir / f"{name}.cfg"
        if taken.exists():
            raise HostError(
                f"xenner@{name} is the guest of {taken}",
                "give this one another name",
            )
        text = order.text
        if text is None:
            text = read_text(order.file)
        instance = self._free_instance(name)
        self._write(
            self._own_dir / f"{instance}.cfg",
            f"{text}\n{order.settings}\n",
        )
        return instance

    def _free_instance(self, name: str) -> str:
        """The name, or a number after it where the unit is that of a guest
        that has another name now."""
        taken = {
            instance_of(record.unit)
            for record in list_records(self._runtime_dir)
            if not record.end and escaped(record.name) != name
        }
        numbered = (f"{name}.{number}" for number in count(2))
        return next(
            instance
            for instance in chain((name,), numbered)
            if instance not in taken
            and not (self._config_dir / f"{instance}.cfg").exists()
        )

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            path.write_text(text, errors="surrogateescape")
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
