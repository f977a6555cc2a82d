# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in a ring's page before anybody serves it: struct
xenstore_domain_interface of io/xs_wire.h."""

import struct

from xenner import abi

RING_BYTES = abi.XENSTORE_RING_SIZE
PAGE_BYTES = 4096

FEATURE_WATCH_DEPTH = 4
"""docs/misc/xenstore-ring.txt, bit 2; not in older headers."""
FEATURES = (
    abi.XENSTORE_SERVER_FEATURE_RECONNECTION
    | abi.XENSTORE_SERVER_FEATURE_ERROR
    | FEATURE_WATCH_DEPTH
)


def offset(field: str) -> int:
    """Where a field of the structure is in the page."""
    return abi.offsetof("xenstore_domain_interface", field)


def offer_features(page: memoryview) -> None:
    """Say what the store will be able to do, in a page that is all zeros."""
    struct.pack_into("<I", page, offset("server_features"), FEATURES)
