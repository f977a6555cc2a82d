# SPDX-License-Identifier: GPL-2.0-or-later
"""What a frontend writes of itself (io/netif.h). Reads nothing by itself: a
function gives each node's value."""

from dataclasses import dataclass

from xenner.backend.frontendnodes import Read, queue_prefixes, read_number
from xenner.errors import GuestError
from xenner.types import Domid, GrantRef, Port

MAX_QUEUES = 8


@dataclass(frozen=True, slots=True)
class Ring:
    """Where a queue's two rings are; one channel has both ports alike."""

    domid: Domid
    tx_ref: GrantRef
    rx_ref: GrantRef
    tx_port: Port
    rx_port: Port


@dataclass(frozen=True, slots=True)
class Features:
    """What a frontend takes from us: several buffers for a packet, checksums
    that are still to be made, TCP that is still to be cut. And whether it sends
    an event when it has given buffers."""

    can_sg: bool = False
    has_csum: bool = False
    gso_tcpv4: bool = False
    gso_tcpv6: bool = False
    has_rx_notify: bool = False


def read_features(read: Read) -> Features:
    """Nodes that are not there are features that it has not, except that a
    frontend has checksums unless it says otherwise."""
    can_sg = _flag(read, "feature-sg")
    # A tap makes no difference between IPv4's and IPv6's.
    has_csum = not _flag(read, "feature-no-csum-offload") and _flag(
        read, "feature-ipv6-csum-offload"
    )
    return Features(
        can_sg=can_sg,
        has_csum=has_csum,
        gso_tcpv4=can_sg and has_csum and _flag(read, "feature-gso-tcpv4"),
        gso_tcpv6=can_sg and has_csum and _flag(read, "feature-gso-tcpv6"),
        has_rx_notify=_flag(read, "feature-rx-notify"),
    )


def wants_filter(read: Read) -> bool:
    """Is it to be spared multicast that it has not asked for?"""
    return _flag(read, "request-multicast-control")


def read_rings(read: Read, domid: Domid) -> list[Ring]:
    """Its queues. GuestError: they make no sense."""
    if not _flag(read, "request-rx-copy"):
        raise GuestError(domid, "it does not ask for rx-copy")
    prefixes = queue_prefixes(read, domid, max_queues=MAX_QUEUES)
    return [_read_ring(read, prefix, domid) for prefix in prefixes]


def _read_ring(read: Read, prefix: str, domid: Domid) -> Ring:
    if read(f"{prefix}event-channel-tx") is None:
        names = (f"{prefix}event-channel", f"{prefix}event-channel")
    else:
        names = (f"{prefix}event-channel-tx", f"{prefix}event-channel-rx")
    return Ring(
        domid=domid,
        tx_ref=GrantRef(read_number(read, f"{prefix}tx-ring-ref", domid)),
        rx_ref=GrantRef(read_number(read, f"{prefix}rx-ring-ref", domid)),
        tx_port=Port(read_number(read, names[0], domid)),
        rx_port=Port(read_number(read, names[1], domid)),
    )


def _flag(read: Read, name: str) -> bool:
    text = read(name) or ""
    return text.isascii() and text.isdigit() and text.strip("0") != ""
