# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon says to the service manager: sd_notify(3)."""

import os
import socket


def notify(*lines: str) -> bool:
    """Tell the service manager, `READY=1`, `STATUS=...`; False: there is
    none, or it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True
