# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket to listen on: the service manager's, or one at a path."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenner.errors import HostError
from xenner.listening import listen_at

_FIRST_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


@contextmanager
def open_listener(path: Path) -> Iterator[socket.socket]:
    """Own the listening socket for the length of the block.

    One that was handed over (sd_listen_fds(3)) comes before `path`. A path
    is removed afterwards; one that nobody listens on any more is replaced.
    HostError: somebody listens there, or no socket can be made.
    """
    handed_over = _handed_over()
    if handed_over is not None:
        with handed_over:
            yield handed_over
        return
    try:
        # Who connects is asked for credentials: see domains.py.
        listener = listen_at(
            path, socket.SOCK_SEQPACKET, mode=0o666, backlog=128
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


def _handed_over() -> socket.socket | None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise HostError("one socket is expected from the service manager")
    sock = socket.socket(fileno=_FIRST_FD)
    sock.set_inheritable(False)
    if sock.type != socket.SOCK_SEQPACKET:
        sock.detach()
        raise HostError("the service manager's socket is not SOCK_SEQPACKET")
    return sock
