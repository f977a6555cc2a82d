# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix sockets to listen on: at a path, or the service manager's."""

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xenner.errors import HostError

# unix(7): sun_path without its last zero.
_PATH_MAX_BYTES = 107
_UCRED = struct.Struct("3i")
_KIND_NAMES = {
    socket.SOCK_STREAM: "SOCK_STREAM",
    socket.SOCK_SEQPACKET: "SOCK_SEQPACKET",
}


@contextmanager
def open_listener(
    path: Path,
    kind: socket.SocketKind,
    *,
    mode: int,
    backlog: int,
    group: str | None = None,
) -> Iterator[socket.socket]:
    """Own a daemon's listening socket for the length of the block.

    One that the service manager hands over (sd_listen_fds(3)) comes before
    `path`, and stays with it. A path is removed afterwards; it is `group`'s,
    else as the process has it. HostError: there is no such group, somebody
    listens there, no socket can be made, or what was handed over is no
    listening Unix socket of that kind.
    """
    listener = _handed_over(kind)
    if listener is not None:
        with listener:
            yield listener
        return
    try:
        listener = listen_at(
            path, kind, mode=mode, backlog=backlog, group=group
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE and path.is_socket():
            raise HostError(
                f"somebody listens on {path} already", "end that one first"
            ) from error
        raise HostError(
            f"cannot listen on {path}: {error.strerror or error}",
            "name another place with --socket",
        ) from error
    with listener:
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _handed_over(kind: socket.SocketKind) -> socket.socket | None:
    if "LISTEN_FDS" not in os.environ:
        return None
    from systemd import daemon

    try:
        fds = daemon.listen_fds(unset_environment=False)
        if not fds:
            # Another process is meant: LISTEN_PID.
            return None
        if len(fds) != 1:
            raise HostError("one socket is expected from the service manager")
        if not daemon.is_socket_unix(fds[0], kind):
            reason = f"is no Unix socket of {_KIND_NAMES[kind]}"
        elif not daemon.is_socket_unix(fds[0], kind, listening=1):
            reason = "does not listen"
        else:
            return socket.socket(fileno=fds[0])
    except OSError as error:
        raise HostError(
            f"the service manager's descriptor: {error.strerror}"
        ) from error
    raise HostError(f"the service manager's socket {reason}")


def listen_at(
    path: Path,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    mode: int | None = None,
    backlog: int,
    group: str | None = None,
) -> socket.socket:
    """A socket that listens at `path`, for those whom `mode` lets in; None:
    as the umask has it. HostError: there is no such group.

    Whoever sees the path can connect: it gets its name when it listens. A
    socket that nobody listens on any more is replaced, one that lives is not:
    OSError EADDRINUSE, as for all else that is there. OSError without a number:
    the path is too long.
    """
    if not path.name:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    _remove_dead(path, kind)
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise OSError("AF_UNIX path too long")
    unready = path.with_name(f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        unready.unlink(missing_ok=True)
        listener.bind(str(unready))
        if group is not None:
            give_to(unready, group)
        if mode is not None:
            unready.chmod(mode)
        listener.listen(backlog)
        # Not renamed: that would take the name from one that lives.
        path.hardlink_to(unready)
    except FileExistsError:
        listener.close()
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    except (HostError, OSError):
        listener.close()
        raise
    finally:
        with suppress(OSError):
            unready.unlink(missing_ok=True)
    return listener


def find_gid(group: str) -> int:
    """A group's number. HostError: there is none of that name."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise HostError(
            f"there is no group {group}", "systemd-sysusers makes the suite's"
        ) from None


def find_uid(user: str) -> int:
    """A user's number. HostError: there is none of that name."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise HostError(
            f"there is no user {user}", "systemd-sysusers makes the suite's"
        ) from None


def give_to(path: Path, group: str) -> None:
    """Make a file the group's. HostError: there is none; OSError."""
    gid = find_gid(group)
    # Who is in a filter without chown() has the group from its unit.
    if path.stat().st_gid != gid:
        os.chown(path, -1, gid)


def _remove_dead(path: Path, kind: socket.SocketKind) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def listener_of(
    path: Path, kind: socket.SocketKind = socket.SOCK_STREAM
) -> int | None:
    """Who listens on a Unix socket: unix(7)'s SO_PEERCRED of a connection is
    the listener's. None: nobody does."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            raw = probe.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
            )
        except OSError:
            return None
    return int(_UCRED.unpack(raw)[0]) or None
