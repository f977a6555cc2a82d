# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what with a node: docs/misc/xenstore.txt, "permission entries".

The first entry names the owner, who may do everything; its access is that of
all domains without an entry of their own.
"""

import errno
from functools import lru_cache

from xenstored.wire import StoreError, number

Perms = tuple[tuple[int, int], ...]
"""Pairs of a domain and its access, never empty."""

NONE = 0
READ = 1
WRITE = 2
OWNER = 4
"""Not written in an entry: what only the owner may do."""

_LETTERS = {b"n": NONE, b"r": READ, b"w": WRITE, b"b": READ | WRITE}
_LETTER_OF = {access: letter for letter, access in _LETTERS.items()}
_DOMID_MAX = 65535


def access(perms: Perms, domid: int, target: int | None) -> int:
    """What a domain may do; `target` is whom SET_TARGET lets it stand for."""
    owner, default = perms[0]
    if owner in (domid, target):
        return READ | WRITE | OWNER
    for entry, granted in perms[1:]:
        if entry in (domid, target):
            return granted
    return default


def parse(texts: list[bytes]) -> Perms:
    """From the strings of SET_PERMS (`n0`, `r3`); EINVAL if one is wrong."""
    entries = []
    for text in texts:
        if text[:1] not in _LETTERS:
            raise StoreError(errno.EINVAL)
        domid = number(text[1:], most=_DOMID_MAX)
        entries.append((domid, _LETTERS[text[:1]]))
    if not entries:
        raise StoreError(errno.EINVAL)
    return tuple(entries)


# Most nodes of a store have one of a few sets of permissions.
@lru_cache(maxsize=256)
def unparse(perms: Perms) -> bytes:
    """The payload of a GET_PERMS reply."""
    return b"".join(
        b"%b%d\0" % (_LETTER_OF[granted], domid) for domid, granted in perms
    )


def without(perms: Perms, domid: int) -> Perms:
    """Less the entries of a domain that is gone; domain 0 inherits."""
    owner, default = perms[0]
    first = (0 if owner == domid else owner, default)
    return (first, *(entry for entry in perms[1:] if entry[0] != domid))
