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

Add = Callable[..., argparse.Action]
"""argparse's add_argument()."""
DOMAIN = "domain"
"""The destination of words that name domains: a shell offers their names."""


class UsageError(ConfigError):
    """What was typed is wrong in a way that argparse cannot know."""


@dataclass(frozen=True, slots=True)
class Command:
    """`run` gets what was typed and returns the exit status. `declare` says
    once which options and words there are: what is taken, the help and a
    shell's completion follow from it. Without it `run` gets the words as they
    are, as `words`."""

    run: Callable[[argparse.Namespace], int]
    declare: Callable[[Add], object] | None
    summary: str

    def parser(self, name: str) -> Parser:
        """For the words after `name`, which is the command's."""
        parser = Parser(f"{own_name()} {name}", description=f"{self.summary}.")
        if self.declare is None:
            parser.add_argument("words", nargs="*", metavar="word")
        else:
            self.declare(parser.add_argument)
        return parser

    def __call__(self, name: str, words: Sequence[str]) -> int:
        """Parse the words and run; argparse ends the program, with status 2,
        where they are wrong."""
        if self.declare is None:
            return self.run(argparse.Namespace(words=words))
        parser = self.parser(name)
        try:
            return self.run(parser.parse_args(words))
        except UsageError as error:
            parser.error(str(error))


def own_name() -> str:
    """What we were called as: `xl` through a link of that name."""
    return "xl" if Path(sys.argv[0]).name == "xl" else "xennerctl"


class Parser(argparse.ArgumentParser):
    """Takes options between the words too, as xl's getopt_long(3) does, and
    knows what was declared."""

    def __init__(self, prog: str, *, description: str) -> None:
        self.declared: list[argparse.Action] = []
        super().__init__(prog, description=description)

    def add_argument(self, *args: Any, **settings: Any) -> argparse.Action:
        action = super().add_argument(*args, **settings)
        self.declared.append(action)
        return action

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        return self.parse_intermixed_args(args, namespace)


def add_domain(add: Add) -> None:
    """A word that names a domain."""
    add(DOMAIN, metavar="Domain")


def add_json(add: Add) -> None:
    """--json."""
    add("--json", action="store_true", help="for programs")


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
