# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in a ring's page before anybody serves it: struct
xenstore_domain_interface of io/xs_wire.h."""

import struct

RING_BYTES = 1024
PAGE_BYTES = 4096

FEATURES_OFFSET = 2064
"""Of `server_features`, behind the two rings and their indices."""

FEATURE_RECONNECTION = 1
FEATURE_ERROR = 2
FEATURE_WATCH_DEPTH = 4
"""docs/misc/xenstore-ring.txt, bit 2; not in older headers."""
FEATURES = FEATURE_RECONNECTION | FEATURE_ERROR | FEATURE_WATCH_DEPTH


def offer_features(page: memoryview) -> None:
    """Say what the store will be able to do, in a page that is all zeros."""
    struct.pack_into("<I", page, FEATURES_OFFSET, FEATURES)
