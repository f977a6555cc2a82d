# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket to listen on: the service manager's, or one at a path."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenner.errors import HostError

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
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            _remove_dead(path)
            listener.bind(str(path))
            # Who connects is asked for credentials: see domains.py.
            path.chmod(0o666)
            listener.listen(128)
        except OSError as error:
            raise HostError(
                f"cannot listen on {path}: {error.strerror}",
                "name another place with --socket",
            ) from error
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


def _remove_dead(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise HostError(
                f"somebody listens on {path} already", "end that one first"
            )
