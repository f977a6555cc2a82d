# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command is, and how one is found by its name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenner.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Command:
    """`run` gets the words after the name and returns the exit status."""

    run: Callable[[Sequence[str]], int]
    usage: str
    summary: str


def own_name() -> str:
    """What we were called as: `xl` through a link of that name."""
    return "xl" if Path(sys.argv[0]).name == "xl" else "xennerctl"


class _Parser(argparse.ArgumentParser):
    """Takes options between the words too, as xl's getopt_long(3) does."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        return self.parse_intermixed_args(args, namespace)


def parser_of(command: str) -> argparse.ArgumentParser:
    """For the words after a command's name; it says whose they are."""
    return _Parser(f"{own_name()} {command}")


class NoCommandError(ConfigError):
    """There is no such command: xl's words for it, and its status 1."""


def find_command(name: str, commands: Collection[str]) -> str:
    """The command that is meant: by its name, or by a beginning that no
    other has, as xl does it. NoCommandError if there is none, ConfigError if
    there are more."""
    if name in commands:
        return name
    found = sorted(full for full in commands if full.startswith(name))
    if not name or not found:
        raise NoCommandError("command not implemented")
    if len(found) > 1:
        raise ConfigError(f"{name}: which one of {', '.join(found)}?")
    return found[0]


def help_text(
    commands: Mapping[str, Command], *, name: str = "xennerctl"
) -> str:
    """All commands with a line for each, of the program `name`."""
    width = max(map(len, commands))
    rows = [
        f" {word:{width}}  {command.summary}"
        for word, command in sorted(commands.items())
    ]
    return (
        f"Usage {name} [-v] [-f] [-t] [-N] <subcommand> [args]\n\n"
        f"{name} full list of subcommands:\n\n" + "\n".join(rows) + "\n"
    )
