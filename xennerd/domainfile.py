# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's file, as everybody reads it."""

from __future__ import annotations

from pathlib import Path

from xenner.errors import ConfigError, why_unread
from xenner.xlcfg import DomainConfig, parse_config


def read_config(path: Path, *, extra: str = "") -> DomainConfig:
    """The domain of a file, with settings that win over it; ConfigError also
    if it cannot be read."""
    return config_of(read_text(path), path, extra=extra)


def config_of(text: str, path: Path, *, extra: str = "") -> DomainConfig:
    """The same where it is known what stands in the file."""
    return parse_config(
        text, file=str(path), extra=extra, default_name=path.stem
    )


def read_text(path: Path) -> str:
    """What stands in it. ConfigError: it cannot be read."""
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(why_unread(error), file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("not a text file (UTF-8)", file=path) from None
