# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of nodes: which are valid, and the names that they consist of.

`/a/b` has the parts (b"", b"a", b"b"), `/` has (b"",), and the special node
`@releaseDomain` has (b"@releaseDomain",). So a prefix of the parts is the
path of an ancestor, and every path starts at one root that no client sees.
"""

import errno
import re
from functools import lru_cache

from xenstored.wire import ABS_PATH_MAX, REL_PATH_MAX, StoreError

Parts = tuple[bytes, ...]

ROOT: Parts = (b"",)

_VALID = re.compile(rb"/|(?:(?:/|\A@)[A-Za-z0-9_@-]+)(?:/[A-Za-z0-9_@-]+)*")


def home(domid: int) -> bytes:
    """What a domain's relative paths are relative to."""
    return b"/local/domain/%d" % domid


# A client says the same paths again and again. The bound, and that of a guest's
# path's depth, keep what one can fill it with to a few megabytes.
@lru_cache(maxsize=2048)
def resolve(path: bytes, base: bytes) -> Parts:
    """The parts of a path, relative ones below `base`; specials too.

    Raises StoreError (EINVAL) for a path that the protocol forbids.
    """
    if path[:1] not in (b"/", b"@"):
        if len(path) > REL_PATH_MAX:
            raise StoreError(errno.EINVAL)
        path = base + b"/" + path
    if len(path) > ABS_PATH_MAX or not _VALID.fullmatch(path):
        raise StoreError(errno.EINVAL)
    return ROOT if path == b"/" else tuple(path.split(b"/"))


def joined(parts: Parts) -> bytes:
    """The path that has these parts."""
    return b"/".join(parts) or b"/"
