# SPDX-License-Identifier: GPL-2.0-or-later
"""Start a domain's process: directly, or as a unit of systemd. Nothing else
differs between the two."""

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
from xenner.paths import CONFIG_DIR, Paths
from xenner.types import Domid
from xenner.unitname import escaped
from xennerd.domain.file import read_text
from xennerd.domain.pausing import pause_path, pause_requested
from xennerd.domain.records import Record, list_records
from xennerd.units.manager import Units, instance_of, is_instance

_READY_LIMIT_S = 120.0
_EXIT_CONFIG = 2
_SETTLED_LIMIT_S = 10.0
_SETTLED_LOOK_S = 0.05
# systemd's states of a unit whose guest has just ended.
_ENDING = ("active", "reloading", "deactivating")


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A guest to start. `file` is an absolute path, `text` its content if
    known already; `settings` override it. `domid` None: a free number, or the
    file's name. `unit` is the unit that the domain ran in before and runs in
    again. `is_restart`: its process was killed, and its record has all that
    the start needs."""

    name: str
    file: Path
    settings: str = ""
    domid: Domid | None = None
    is_paused: bool = False
    text: str | None = None
    handle: str = ""
    unit: str = ""
    is_restart: bool = False


class Launcher(Protocol):
    """Calls block, and may be made in several threads."""

    def start(self, request: StartRequest) -> None:
        """Return when the guest runs, or is paused before its first
        instruction. HostError: the start failed; ConfigError: and will fail
        again."""

    def was_stop_requested(self, record: Record) -> bool:
        """Was the killed domain stopped by its service manager?"""

    def forget(self, record: Record) -> None:
        """Release what belongs to a domain that ended and does not restart."""


class ProcessLauncher:
    """Starts processes that outlive xennerd, each with its own log file."""

    def __init__(self, paths: Paths, *, environment: Mapping[str, str]) -> None:
        self._paths = paths
        self._environment = environment
        self._log_dir = paths.log_dir
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, request: StartRequest) -> None:
        """An error quotes the last line of the guest's log."""
        self._log_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        log = self._log_dir / f"guest-{request.name}.log"
        with ExitStack() as stack:
            directory = stack.enter_context(TemporaryDirectory("xennerd"))
            ready = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            )
            ready.bind(f"{directory}/notify")
            output = stack.enter_context(log.open("ab"))
            begin = output.tell()
            given = stack.enter_context(TemporaryFile())
            given.write((request.text or "").encode(errors="surrogateescape"))
            given.seek(0)
            child = subprocess.Popen(
                [str(word) for word in self._argv(request)],
                env={
                    **self._environment,
                    "NOTIFY_SOCKET": f"{directory}/notify",
                },
                stdin=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            if _wait_ready(ready, child):
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

    def was_stop_requested(self, record: Record) -> bool:
        """A signal does not say why it was sent."""
        return False

    def forget(self, record: Record) -> None:
        """Reap the children that have ended."""
        self._children = [
            child for child in self._children if child.poll() is None
        ]

    def _argv(self, request: StartRequest) -> list[str | Path]:
        paths = self._paths
        domid = () if request.domid is None else ("--domid", str(request.domid))
        return [
            *(sys.executable, "-m", "xennerd.domain.start"),
            *("--runtime-dir", paths.runtime_dir),
            *("--evtchnd", paths.evtchnd, "--xenstore", paths.xenstore),
            *(f"--set={request.settings}", *domid),
            *(["--paused"] if request.is_paused else []),
            *self._source_options(request),
            request.file,
        ]

    def _source_options(self, request: StartRequest) -> list[str]:
        if request.is_restart:
            return ["--again"]
        return [] if request.text is None else ["--stdin"]


def _wait_ready(ready: socket.socket, child: subprocess.Popen[bytes]) -> bool:
    """Wait for READY=1, or for the end of the child."""
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


class SystemdLauncher:
    """Starts units: xenner@NAME.service reads /etc/xenner/NAME.cfg, or a file
    that this class writes into the runtime directory."""

    def __init__(
        self, paths: Paths, units: Units, *, config_dir: Path = CONFIG_DIR
    ) -> None:
        self._units = units
        self._config_dir = config_dir
        self._runtime_dir = paths.runtime_dir
        self._own_dir = paths.written_config_dir
        # Starts in progress, counted by instance.
        self._starting: Counter[str] = Counter()
        self._files = threading.Lock()

    def start(self, request: StartRequest) -> None:
        """The unit's journal has the reason of a failed start."""
        with self._files:
            # A restart reads all from the record, the name too.
            instance = instance_of(request.unit) or self._instance(request)
            if request.is_restart:
                self._give_file(instance, request)
            self._starting[instance] += 1
        try:
            self._start(instance, request)
        finally:
            with self._files:
                self._starting[instance] -= 1

    def _start(self, instance: str, request: StartRequest) -> None:
        # Starting a unit that is still stopping would do nothing.
        self._settled(instance, _ENDING)
        with ExitStack() as stack:
            if request.is_paused:
                path = pause_path(self._runtime_dir, instance)
                try:
                    stack.enter_context(pause_requested(path))
                except OSError as error:
                    raise HostError(f"{path}: {error.strerror}") from error
            self._units.start(instance)

    def was_stop_requested(self, record: Record) -> bool:
        """True if systemd killed the unit for not stopping in time, or stopped
        it."""
        instance, result = instance_of(record.unit), ""
        if instance:
            # systemd may learn of the end later than we do; a unit that is
            # activating has its result in a moment.
            result = self._settled(instance, (*_ENDING, "activating", ""))
        return result in ("timeout", "success")

    def _settled(self, instance: str, moving: Container[str]) -> str:
        """Wait until the unit is in none of the `moving` states, or for a time
        limit; return the unit's result."""
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
        """Remove the file that we wrote, unless the instance is in use
        again."""
        instance = instance_of(record.unit)
        if not instance:
            return
        with self._files:
            is_in_use = self._starting[instance] or any(
                other.unit == record.unit
                and not other.end
                and other.pid != record.pid
                for other in list_records(self._runtime_dir)
            )
            if not is_in_use:
                (self._own_dir / f"{instance}.cfg").unlink(missing_ok=True)

    def _give_file(self, instance: str, request: StartRequest) -> None:
        """Write a file for a restart: the unit requires one, and reads
        nothing."""
        own = self._own_dir / f"{instance}.cfg"
        known = (self._config_dir / f"{instance}.cfg", own)
        if request.text is not None and not any(map(Path.exists, known)):
            self._write(own, f"{request.text}\n{request.settings}\n")

    def _instance(self, request: StartRequest) -> str:
        """The instance for the request; writes its file if there is none."""
        known = (self._config_dir, self._own_dir)
        is_known = (
            request.file.parent in known and request.file.suffix == ".cfg"
        )
        if is_known and not request.settings:
            return request.file.stem
        name = escaped(request.name)
        if not is_instance(name):
            raise HostError(f"{request.name}: no unit can have such a name")
        taken = self._config_dir / f"{name}.cfg"
        if taken.exists():
            raise HostError(
                f"xenner@{name} is the guest of {taken}",
                "give this one another name",
            )
        text = request.text
        if text is None:
            text = read_text(request.file)
        instance = self._free_instance(name)
        self._write(
            self._own_dir / f"{instance}.cfg",
            f"{text}\n{request.settings}\n",
        )
        return instance

    def _free_instance(self, name: str) -> str:
        """The name; with a number appended if that unit runs a guest that was
        renamed."""
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
