# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons' settings: one TOML file, xenner.toml(5).

A file that is not there says nothing. What stands on a command line or in the
environment wins over it. All that is wrong is a ConfigError with its line.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from xenner.errors import ConfigError
from xenner.paths import CONFIG_DIR

PATH = CONFIG_DIR / "xenner.toml"
VARIABLE = "XENNER_CONFIG"
"""The environment's word for another file."""

_TABLE = re.compile(r"\s*\[\s*\"?([^\]\"]*?)\"?\s*\]")
_AT_LINE = re.compile(
    r" ?\(at (?:line ([0-9]+), column [0-9]+|end of [a-z]+)\)"
)
_UIDS = 1 << 32


class Level(StrEnum):
    """What is told, and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Console(StrEnum):
    """What serves guests' consoles."""

    XENNER = "xenner"
    XENCONSOLED = "xenconsoled"


@dataclass(frozen=True, slots=True)
class Log:
    """[log]"""

    level: Level = Level.INFO


@dataclass(frozen=True, slots=True)
class EvtchndSettings:
    """[evtchnd]; `max_fds` 0: as many as it may have."""

    max_fds: int = 0
    trust_uids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """[store]; `program`: a real xenstored or oxenstored that serves."""

    program: str = ""
    sync: bool = False


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """[guests]: those of domain files."""

    console: Console = Console.XENNER
    console_to_journal: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The file, a table each."""

    log: Log = field(default_factory=Log)
    evtchnd: EvtchndSettings = field(default_factory=EvtchndSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    guests: GuestSettings = field(default_factory=GuestSettings)

    @property
    def level(self) -> int:
        """For logging."""
        return logging.getLevelNamesMapping()[self.log.level.upper()]


_TABLES: dict[str, Any] = {
    "log": Log,
    "evtchnd": EvtchndSettings,
    "store": StoreSettings,
    "guests": GuestSettings,
}


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Those of this host. ConfigError also if the file cannot be read, or if
    one that the environment names is not there."""
    environment = os.environ if environment is None else environment
    named = environment.get(VARIABLE, "")
    path = Path(named) if named else PATH
    try:
        return read_settings(path)
    except FileNotFoundError:
        if named:
            raise ConfigError("there is no such file", file=path) from None
        return Settings()


def read_settings(path: Path) -> Settings:
    """Those of a file. ConfigError; FileNotFoundError if it is not there."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError:
        raise ConfigError("not a text file (UTF-8)", file=path) from None
    except OSError as error:
        raise ConfigError(str(error.strerror), file=path) from None
    return parse_settings(text, file=path)


def parse_settings(text: str, *, file: Path | str) -> Settings:
    """Pure. ConfigError: what is wrong, and where."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _AT_LINE.search(str(error))
        at_line = int(match[1]) if match and match[1] else None
        reason = _AT_LINE.sub("", str(error))
        raise ConfigError(reason, file=file, line=at_line) from None
    found: dict[str, Any] = {}
    for name, values in tables.items():
        line = _line_of(text, name)
        kind = _TABLES.get(name)
        if kind is None:
            known = ", ".join(f"[{table}]" for table in _TABLES)
            raise ConfigError(
                f"{name}: unknown; there are {known}", file=file, line=line
            )
        if not isinstance(values, dict):
            raise ConfigError(
                f"{name}: is a table, [{name}]", file=file, line=line
            )
        words = {}
        for key, value in values.items():
            try:
                words[key] = _checked(kind, key, value)
            except ValueError as error:
                raise ConfigError(
                    f"{name}.{key}: {error}",
                    file=file,
                    line=_line_of(text, name, key),
                ) from None
        found[name] = kind(**words)
    return Settings(**found)


def _checked(kind: Any, key: str, value: object) -> object:
    """A value of the field's own kind, that of its default. ValueError."""
    defaults = {f.name: f.default for f in fields(kind)}
    if key not in defaults:
        raise ValueError(f"unknown; there are {', '.join(defaults)}")
    default = defaults[key]
    match default:
        case bool():
            if isinstance(value, bool):
                return value
            raise ValueError("true or false")
        case StrEnum():
            choices = {str(choice): choice for choice in type(default)}
            if isinstance(value, str) and value in choices:
                return choices[value]
            raise ValueError(f"one of {', '.join(choices)}")
        case int():
            if _is_number(value):
                return value
            raise ValueError("a whole number, not below 0")
        case str():
            if isinstance(value, str):
                return value
            raise ValueError("a text")
    if isinstance(value, list) and all(map(_is_number, value)):
        return tuple(value)
    raise ValueError("a list of numbers")


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value < _UIDS
    )


def _line_of(text: str, table: str, key: str = "") -> int | None:
    """Where a table or a key of it stands; tomllib does not say. None: it is
    spelled in a way that only TOML knows."""
    is_inside = False
    # Before its table a key has the table's name too.
    whole = f"{table}.{key}" if key else table
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE.match(line):
            is_inside = match[1].strip() == table
            if is_inside and not key:
                return number
        elif _names(line, key if is_inside else whole):
            return number
    return None


def _names(line: str, key: str) -> bool:
    return bool(re.match(rf"\s*\"?{re.escape(key)}\"?\s*[=.]", line))
