# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors by whose fault they are; str() is the one line for the person.

An error of ours has no class here: it ends the process with a traceback.
"""

from pathlib import Path

from xenner.types import Domid


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
