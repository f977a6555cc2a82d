# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolstack wrote of a disk, from its nodes. Pure."""

from collections.abc import Mapping
from pathlib import Path

from blkbackd.engine import Limits
from xenner.errors import HostError

# What may stand before the path: the block script's types, and libxl's word
# for a raw image. The path itself may have colons.
_TYPES = frozenset({"phy", "file", "aio", "raw"})

LIMITS: Mapping[str, str] = {
    "iops-total": "requests_per_s",
    "iops-total-max": "requests_burst",
    "bps-total": "bytes_per_s",
    "bps-total-max": "bytes_burst",
}
"""Nodes below the backend's directory, named as QEMU's throttling options."""
# As in QEMU's: what is not told is a tenth of a second's.
_BURST_SHARE = 10
_DIGITS = 18


def parse_params(params: str) -> Path:
    """The file or device of the node `params`; one that is not absolute is
    below /dev, as the block script has it for phy:."""
    kind, _, rest = params.partition(":")
    return Path("/dev", rest if kind in _TYPES else params)


def may_write(mode: str) -> bool:
    """`mode` is r or w; "!" behind it: others may have it as well."""
    return mode.startswith("w")


def may_share(mode: str) -> bool:
    return mode.endswith("!")


def read_limits(nodes: Mapping[str, str | None]) -> Limits:
    """From the nodes of LIMITS. HostError: one is no number."""
    found = dict.fromkeys(LIMITS.values(), 0)
    for name, field in LIMITS.items():
        text = nodes.get(name) or "0"
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
            raise HostError(f"{name} is no number: {text!r}")
        found[field] = int(text)
    for kind in ("requests", "bytes"):
        share = found[f"{kind}_per_s"] // _BURST_SHARE
        found[f"{kind}_burst"] = found[f"{kind}_burst"] or share
    return Limits(**found)
