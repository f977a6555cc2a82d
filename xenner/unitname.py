# SPDX-License-Identifier: GPL-2.0-or-later
"""Any name as a part of a systemd unit's. Pure."""

import re

_PLAIN = re.compile(r"[A-Za-z0-9_:.-]")
MAX_BYTES = 200
"""Of an escaped name: with what stands around it in a unit's and in a file's
it has 255 at most."""


def escaped(name: str) -> str:
    """As systemd-escape(1) writes it, but for a hyphen, which may stand where
    it is not the first."""
    return "".join(
        c if _PLAIN.fullmatch(c) and not (at == 0 and c in ".-") else _hex(c)
        for at, c in enumerate(name)
    )


def _hex(c: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in c.encode())
