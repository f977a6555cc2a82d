# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a daemon's log goes: the journal, with what records have of its
fields, or standard error."""

import logging
import os


def set_up_logging(name: str, level: int) -> None:
    """To the journal if that reads standard error; then `extra`, in capitals,
    are fields."""
    if not is_read_by_journal():
        logging.basicConfig(format=f"{name}: %(message)s", level=level)
        return
    from systemd import journal

    handler = journal.JournalHandler(SYSLOG_IDENTIFIER=name)
    logging.basicConfig(format="%(message)s", level=level, handlers=[handler])


def is_read_by_journal() -> bool:
    """Is the journal at the other end of standard error? systemd.exec(5),
    JOURNAL_STREAM: who redirects it leaves the variable as it is."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
