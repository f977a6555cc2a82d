# SPDX-License-Identifier: GPL-2.0-or-later
"""Going to the background, and the file that says where."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xenner.errors import HostError


def go_to_background() -> Callable[[], None]:
    """Fork; the parent waits until the child is ready, or reports its end.

    Returns, in the child, what to call when the guest runs: from then on
    standard error goes nowhere and the parent has left with status 0.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        is_ready = os.read(reader, 1) == b"1"
        if is_ready:
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) or 1)
    os.close(reader)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def ready() -> None:
        os.write(writer, b"1")
        os.close(writer)
        sys.stderr.flush()
        os.dup2(null, 2)

    return ready


@contextmanager
def pidfile(path: Path) -> Iterator[None]:
    """This process's number in a file, for the length of the block."""
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise HostError(f"pidfile {path}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
