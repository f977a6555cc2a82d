# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors by whose fault they are; str() is the one line for the person.

An error of ours has no class here: it ends the process with a traceback.
"""

import errno
import os
import pwd
from pathlib import Path

from xenner.types import Domid


def why_unread(error: OSError) -> str:
    """Why a file of the operator's was not read, and what that asks for."""
    text = error.strerror or str(error)
    if error.errno != errno.EACCES:
        return text
    return f"{text}: it is to be readable to {_user()}"


def _user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"


class GuestError(Exception):
    """A guest broke the rules; that domain or device closes, nothing else."""

    def __init__(self, domid: Domid, text: str) -> None:
        super().__init__(domid, text)
        self.domid = domid
        self.text = text

    def __str__(self) -> str:
        return f"domain {self.domid}: {self.text}"


class HostError(Exception):
    """This host cannot do it (now); `hint` says what the operator can do."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text, hint)
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text


class ShortageError(HostError):
    """It has too little of something now: the same may be asked again later."""


SHORTAGES = frozenset(
    (
        *(errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.ENOLCK),
        *(errno.EMFILE, errno.ENFILE),
    )
)
"""Their errnos, of what processes ask the kernel for."""


def host_error(number: int, text: str, hint: str = "") -> HostError:
    """`text` and what an errno says."""
    kind = ShortageError if number in SHORTAGES else HostError
    return kind(f"{text}: {os.strerror(number)}", hint)


class ConfigError(Exception):
    """What the operator asked for is wrong: exit status 2.

    `file` and `line` name the place when the fault stands in a file.
    """

    def __init__(
        self,
        text: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(text, file, line)
        self.text = text
        self.file = file
        self.line = line

    def __str__(self) -> str:
        if self.file is None:
            return self.text
        if self.line is None:
            return f"{self.file}: {self.text}"
        return f"{self.file}:{self.line}: {self.text}"
