# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a daemon's log goes: the journal, with what records have of its
fields, or standard error."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any


def set_up_logging(name: str, level: int) -> None:
    """To the journal if that reads standard error, and systemd-python is
    there; then `extra`, in capitals, are fields."""
    journal = find_journal()
    if journal is None:
        logging.basicConfig(format=f"{name}: %(message)s", level=level)
        return
    handler = journal.JournalHandler(SYSLOG_IDENTIFIER=name)
    logging.basicConfig(format="%(message)s", level=level, handlers=[handler])


def find_journal() -> Any | None:
    """The module systemd.journal, where the journal is what reads us."""
    return import_journal() if "JOURNAL_STREAM" in os.environ else None


def import_journal() -> Any | None:
    """The module, if it is installed."""
    try:
        return importlib.import_module("systemd.journal")
    except ImportError:
        return None
