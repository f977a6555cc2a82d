# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's file, as everybody reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from xenner.errors import ConfigError, why_unread
from xenner.xlcfg import DomainConfig, parse_config
from xennerd.domain.records import Record

MAX_BYTES = 256 << 10
"""Of a domain file; xennerd takes requests that have one within."""

NO_FILE = Path(os.devnull)
"""All that counts is given beside it."""


def read_config(path: Path, *, extra: str = "") -> DomainConfig:
    """The domain of a file, with settings that win over it; ConfigError also
    if it cannot be read."""
    return config_of(read_text(path), path, extra=extra)


def config_of(text: str, path: Path, *, extra: str = "") -> DomainConfig:
    """The same where it is known what stands in the file."""
    # /dev/null is a file as good as any, of no name.
    name = "" if path == NO_FILE else path.stem
    return parse_config(text, file=str(path), extra=extra, default_name=name)


def config_of_record(record: Record) -> DomainConfig:
    """What a domain is started from again: its file as it was when it was
    created, whatever stands there now. ConfigError."""
    path, text = Path(record.file), record.text
    if text is None:
        text = read_text(path)
    return config_of(text, path, extra=record.settings)


def read_text(path: Path) -> str:
    """What stands in it. ConfigError: it cannot be read."""
    if path == NO_FILE:
        return ""
    try:
        # open(2): nobody may ever write into a pipe.
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
    # As xl has it, and the kernel in paths, bytes are bytes.
    text = data.decode(errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")
