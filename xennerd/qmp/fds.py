# SPDX-License-Identifier: GPL-2.0-or-later
"""A server's clients, and the descriptors that they send (SCM_RIGHTS,
getfd)."""

import os
from dataclasses import dataclass, field
from typing import Any

from xennerd.qmp.request import QmpError

_MAX_NAMED_FDS = 16


@dataclass(slots=True)
class Caller:
    """One connection: its user by SO_PEERCRED (None: unknown), and the
    descriptors that it has sent."""

    uid: int | None = None
    unnamed_fds: list[int] = field(default_factory=list)
    named_fds: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Close what no command has taken."""
        for fd in (*self.unnamed_fds, *self.named_fds.values()):
            os.close(fd)
        self.unnamed_fds.clear()
        self.named_fds.clear()


def get_fd(arguments: dict[str, Any], caller: Caller) -> Any:
    """getfd: give the descriptor that came last a name."""
    name = arguments["fdname"]
    if not caller.unnamed_fds:
        raise QmpError("No file descriptor supplied via SCM_RIGHTS")
    if not name or name[0].isdigit():
        raise QmpError(
            "Parameter 'fdname' expects a name not starting with a digit"
        )
    if len(caller.named_fds) >= _MAX_NAMED_FDS and name not in caller.named_fds:
        raise QmpError(f"{_MAX_NAMED_FDS} file descriptors have names already")
    if name in caller.named_fds:
        os.close(caller.named_fds.pop(name))
    caller.named_fds[name] = caller.unnamed_fds.pop()
    return {}


def close_fd(arguments: dict[str, Any], caller: Caller) -> Any:
    """closefd: let go of a descriptor that no command has taken."""
    name = arguments["fdname"]
    if name not in caller.named_fds:
        raise QmpError(f"File descriptor named '{name}' not found")
    os.close(caller.named_fds.pop(name))
    return {}
