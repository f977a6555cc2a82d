# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon says to the service manager: sd_notify(3)."""

import os


def notify(*lines: str) -> bool:
    """Tell the service manager, `READY=1`, `STATUS=...`; False: there is
    none, or it does not listen, which is no reason for a guest to end."""
    if not os.environ.get("NOTIFY_SOCKET"):
        # A guest started by hand is spared the library: 5 ms.
        return False
    from systemd import daemon

    try:
        return bool(daemon.notify("\n".join(lines)))
    except OSError:
        return False
