# SPDX-License-Identifier: GPL-2.0-or-later
"""query-block: a guest's block devices in QMP's form. Pure.

What is known of them stands in their backends' nodes in xenstore; the form is
BlockInfo of QEMU's qapi/block-core.json.
"""

from collections.abc import Mapping
from typing import Any

NODES = ("dev", "params", "mode", "removable", "sectors")
"""The nodes of a backend that block_info() looks at."""

# A vbd's throttles have nothing to do with QEMU's: there are none of those.
_NO_LIMITS = dict.fromkeys(
    ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0
)


def block_info(devid: int, nodes: Mapping[str, str]) -> dict[str, Any]:
    """BlockInfo of one vbd; nodes that are not there yet are left out."""
    path = nodes.get("params", "")
    info: dict[str, Any] = {
        "device": nodes.get("dev", str(devid)),
        "qdev": f"/vbd/{devid}",
        "type": "unknown",
        "removable": nodes.get("removable") == "1",
        "locked": False,
    }
    if path:
        info["inserted"] = {
            "file": path,
            "node-name": f"vbd-{devid}",
            "ro": not nodes.get("mode", "r").startswith("w"),
            "drv": "raw",
            "encrypted": False,
            "backing_file_depth": 0,
            "detect_zeroes": "off",
            "write_threshold": 0,
            "active": True,
            **_NO_LIMITS,
            "cache": {"writeback": True, "direct": True, "no-flush": False},
            "image": {
                "filename": path,
                "format": "raw",
                "virtual-size": _size_bytes(nodes),
            },
        }
    return info


def _size_bytes(nodes: Mapping[str, str]) -> int:
    """0 until the backend has said it. `sectors` counts 512 bytes always."""
    sectors = nodes.get("sectors", "")
    return int(sectors) * 512 if sectors.isdecimal() else 0
