# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a daemon's log goes: the journal, with what records have of its
fields, or standard error."""

from __future__ import annotations

import importlib
import logging
import os


def set_up_logging(name: str, level: int) -> None:
    """To the journal if that reads standard error, and systemd-python is
    there; then `extra`, in capitals, are fields."""
    handler = _journal(name)
    if handler is None:
        logging.basicConfig(format=f"{name}: %(message)s", level=level)
        return
    logging.basicConfig(format="%(message)s", level=level, handlers=[handler])


def _journal(name: str) -> logging.Handler | None:
    if "JOURNAL_STREAM" not in os.environ:
        return None
    try:
        journal = importlib.import_module("systemd.journal")
    except ImportError:
        return None
    handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER=name)
    return handler
