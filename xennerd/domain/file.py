# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a domain file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from xenner.errors import ConfigError, why_unread
from xenner.xlcfg import DomainConfig, parse_config
from xennerd.domain.records import Record

MAX_BYTES = 256 << 10
"""The limit of a domain file; requests to xennerd may contain one."""

NO_FILE = Path(os.devnull)
"""Stands for no file: the settings are given separately."""


def read_config(path: Path, *, extra: str = "") -> DomainConfig:
    """Read a file's domain; `extra` settings override the file. ConfigError
    also if the file cannot be read."""
    return config_of(read_text(path), path, extra=extra)


def config_of(text: str, path: Path, *, extra: str = "") -> DomainConfig:
    """The same, with the file's content given."""
    # /dev/null names no domain.
    name = "" if path == NO_FILE else path.stem
    return parse_config(text, file=str(path), extra=extra, default_name=name)


def config_of_record(record: Record) -> DomainConfig:
    """The configuration for a restart: the file's content at the domain's
    creation, whatever the file contains now. ConfigError."""
    path, text = Path(record.file), record.text
    if text is None:
        text = read_text(path)
    return config_of(text, path, extra=record.settings)


def read_text(path: Path) -> str:
    """The content of a file. ConfigError: it cannot be read."""
    if path == NO_FILE:
        return ""
    try:
        # O_NONBLOCK, open(2): a pipe may never have a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError("not a plain file", file=path)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(why_unread(error), file=path) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"more than {MAX_BYTES >> 10} KiB: no domain file", file=path
        )
    # Keep bytes as they are, as xl does, and as paths require.
    text = data.decode(errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")
