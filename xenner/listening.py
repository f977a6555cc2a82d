# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix sockets that listen at a path."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

# unix(7): sun_path without its last zero.
_PATH_MAX_BYTES = 107


def listen_at(
    path: Path,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    mode: int | None = None,
    backlog: int,
) -> socket.socket:
    """A socket that listens at `path`, for those whom `mode` lets in; None:
    as the umask has it.

    Whoever sees the path can connect: it gets its name when it listens. A
    socket that nobody listens on any more is replaced, one that lives is not:
    OSError EADDRINUSE, as for all else that is there. OSError without a number:
    the path is too long.
    """
    _remove_dead(path, kind)
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise OSError("AF_UNIX path too long")
    unready = path.with_name(f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        unready.unlink(missing_ok=True)
        listener.bind(str(unready))
        if mode is not None:
            unready.chmod(mode)
        listener.listen(backlog)
        # Not renamed: that would take the name from one that lives.
        path.hardlink_to(unready)
    except FileExistsError:
        listener.close()
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    except OSError:
        listener.close()
        raise
    finally:
        with suppress(OSError):
            unready.unlink(missing_ok=True)
    return listener


def _remove_dead(path: Path, kind: socket.SocketKind) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
