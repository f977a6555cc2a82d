# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner` with devices but without running daemons: an xennerd of its own.

That xennerd runs in a runtime directory of its own, with the daemons that this
guest needs. It ends when its standard input closes. The guest's process holds
the other end, so nothing is left even if that process is killed.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from xenner.errors import ConfigError, HostError
from xenner.listening import listener_of
from xenner.paths import (
    SHARED_MEMORY_DIR,
    Paths,
    check_runtime_dir,
    make_runtime_dir,
    runtime_dir_of,
)
from xenner.types import Domid
from xenner.vmcorelocks import find_free_domid, is_owned
from xenner.xldisk import Disk
from xennerd.supervisor.programs import programs
from xennerd.vm.options import Options

_READY_LIMIT_S = 60.0
_END_LIMIT_S = 30.0
_LOG = "xennerd.log"
_INTERFACES = Path("/sys/class/net")


@contextmanager
def open_standalone_host(options: Options) -> Iterator[Options]:
    """Run the daemons for the block; yields the options with their sockets.

    HostError: they do not start. Without is_standalone, yields the options
    unchanged.
    """
    if not options.is_standalone:
        yield options
        return
    check_files(options.disks)
    for vif in options.vifs:
        if vif.bridge and not (_INTERFACES / vif.bridge).exists():
            print(
                f"xenner: warning: bridge {vif.bridge} is not there: the "
                "interface joins it when it is",
                file=sys.stderr,
            )
    with ExitStack() as stack:
        directory = _make_directory(options)
        paths = _paths_in(directory)
        _sweep(directory.parent)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.enter_context(_running(paths, _daemons(options)))
        yield replace(
            options,
            domid=options.domid or _free_domid(),
            runtime_dir=directory,
            evtchnd=paths.evtchnd,
            xenstore=paths.xenstore,
        )


def check_files(disks: Iterable[Disk]) -> None:
    """ConfigError: a disk's file is not there. blkbackd says all else."""
    for disk in disks:
        # What has a colon may be QEMU's name of something else.
        if ":" in disk.target:
            continue
        try:
            os.stat(disk.target)
        except OSError as error:
            raise ConfigError(
                f"{disk.vdev}: {disk.target}: {error.strerror}"
            ) from error


def _make_directory(options: Options) -> Path:
    parent = options.runtime_dir or runtime_dir_of(os.environ)
    is_named = options.runtime_dir or os.environ.get("XENNER_RUNTIME_DIR")
    try:
        # The vmcores' own, where others may look for it.
        if not is_named and not _is_ours(parent):
            parent = SHARED_MEMORY_DIR.parent
        make_runtime_dir(parent, with_parents=True)
        prefix = f"private.{os.getpid()}."
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise HostError(f"{parent}: {error.strerror}") from error


def _is_ours(parent: Path) -> bool:
    with suppress(HostError):
        check_runtime_dir(parent)
        return os.access(parent, os.W_OK)
    return False


def _paths_in(directory: Path) -> Paths:
    """All is there."""
    return Paths(
        directory,
        directory / "xenstore",
        state_dir=directory / "state",
        log_dir=directory / "log",
        dump_dir=directory / "dump",
    )


def _sweep(parent: Path) -> None:
    """Clean up where a guest's process and its xennerd were both killed."""
    for directory in parent.glob("private.*"):
        with suppress(OSError):
            # Anybody may make such a directory in /dev/shm.
            if directory.lstat().st_uid != os.geteuid():
                continue
            if directory.is_symlink() or _is_in_use(directory):
                continue
            paths = _paths_in(directory)
            left = [
                program.name
                for program in programs(paths)
                if listener_of(program.socket_path, program.socket_kind)
                is not None
            ]
            if left:
                _end_daemons(paths, left)
            shutil.rmtree(directory, ignore_errors=True)


def _is_in_use(directory: Path) -> bool:
    # Its maker may not have created the rest yet.
    maker = directory.name.split(".")[1]
    return (
        os.path.exists(f"/proc/{maker}")
        or listener_of(_paths_in(directory).xennerd) is not None
        or any(map(is_owned, directory.glob("vmcore.*")))
    )


def _daemons(options: Options) -> list[str]:
    names = ["evtchnd", "xenstored"]
    if options.disks:
        names.append("blkbackd")
    if options.vifs:
        names.append("netbackd")
    return names


def _free_domid() -> Domid:
    """No guest's of the host, nor that of another private one's taps."""
    domid = find_free_domid(runtime_dir_of(os.environ))
    while any(_INTERFACES.glob(f"vif{domid}.*")):
        domid = Domid(domid + 1)
    return domid


@contextmanager
def _running(paths: Paths, names: list[str]) -> Iterator[None]:
    directory = paths.runtime_dir
    reader, writer = os.pipe()
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ready, open(writer, "wb", buffering=0) as held:
        ready.bind(str(directory / "ready"))
        # What goes to the background holds it as well.
        with open(reader, "rb") as end, (directory / _LOG).open("wb") as log:
            process = subprocess.Popen(
                _argv(paths, names),
                stdin=end,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(directory / "ready")},
                # A signal of the terminal is for the guest.
                start_new_session=True,
            )
        pidfd = os.pidfd_open(process.pid)
        try:
            _wait_ready(ready, pidfd, directory / _LOG)
            yield
        finally:
            was_killed = bool(select.select([pidfd], [], [], 0)[0])
            held.close()
            if not select.select([pidfd], [], [], _END_LIMIT_S)[0]:
                process.kill()
            os.close(pidfd)
            # In the background it is not our child.
            process.poll()
            if was_killed:
                _end_daemons(paths, names)


def _end_daemons(paths: Paths, names: list[str]) -> None:
    """End the daemons of a killed xennerd: another xennerd finds and stops
    them."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            _argv(paths, names),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_END_LIMIT_S,
        )


def _argv(paths: Paths, names: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "xennerd.supervisor"),
        *("--daemons", ",".join(names), "--while-stdin"),
        *("--runtime-dir", str(paths.runtime_dir)),
        *("--xenstore", str(paths.xenstore)),
        *("--state-dir", str(paths.state_dir)),
        *("--dump-dir", str(paths.dump_dir)),
        *("--log-dir", str(paths.log_dir)),
    ]


def _wait_ready(ready: socket.socket, pidfd: int, log: Path) -> None:
    limit_s = _READY_LIMIT_S
    while True:
        found, _, _ = select.select([ready.fileno(), pidfd], [], [], limit_s)
        if ready.fileno() in found and b"READY=1" in ready.recv(4096).split(
            b"\n"
        ):
            return
        if pidfd in found or not found:
            said = log.read_text(errors="replace").strip().splitlines()
            raise HostError(
                "the guest's own daemons do not start",
                said[-1] if said else "they say nothing",
            )
