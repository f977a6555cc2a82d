# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of the store a domain may take. Privileged connections may all.

Names, numbers and what they count are those of Xen's xenstored where it has
them (tools/xenstored/domain.c).
"""

import errno
from dataclasses import dataclass, fields

from xenstored.wire import StoreError

PERM_BYTES = 8
"""What one entry of a node's permissions counts for in its size."""
PATH_BYTES, NAME_BYTES = 256, 48
"""About what a transaction takes to remember a path, and each name in it."""


@dataclass(slots=True)
class Quotas:
    """The limits for each unprivileged domain; the operator may change them."""

    nodes: int = 1000
    """Nodes that it owns."""
    node_size: int = 2048
    """Bytes of a node: value, names of children, permissions."""
    permissions: int = 5
    """Entries of a node's permissions."""
    watches: int = 128
    transactions: int = 10
    """Open at a time."""
    transaction_nodes: int = 1024
    """Nodes that one transaction has looked at."""
    transaction_bytes: int = 2 << 20
    """What all its open transactions remember, about."""
    transaction_changes: int = 16 << 10
    """Changes of the store, anybody's, that a transaction sees the store as it
    was before. Beyond them it has a conflict: what it sees is kept for it."""
    depth: int = 64
    """Names in a path. xenstored has no limit but the path's length."""
    outstanding: int = 20
    """Replies that the domain has not taken yet."""
    event_bytes: int = 64 << 10
    """Watch events not taken yet; beyond, each watch keeps one event."""

    @staticmethod
    def field_of(name: bytes) -> str:
        """The attribute for a name as CONTROL has it (`node-size`).

        Raises StoreError (EINVAL) if there is none.
        """
        attribute = name.decode("latin-1").replace("-", "_")
        if attribute not in {field.name for field in fields(Quotas)}:
            raise StoreError(errno.EINVAL)
        return attribute

    def report(self) -> str:
        """One line for each limit, as `xenstore-control quota` shows it."""
        lines = (
            (field.name.replace("_", "-"), getattr(self, field.name))
            for field in fields(self)
        )
        return "".join(f"{name:17}: {value:8}\n" for name, value in lines)


def check(value: int, limit: int) -> None:
    """Raise StoreError (ENOSPC) if a domain would have more than its limit."""
    if value > limit:
        raise StoreError(errno.ENOSPC)
