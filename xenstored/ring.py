# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's shared page: struct xenstore_domain_interface of io/xs_wire.h.

The guest may write anything there at any time: every index is read once,
checked, and then only the copy is used. A request that is whole stays in the
ring until it is answered, and a reply is put there whole, if it fits: so the
ring makes sense to a store that serves it after us.
"""

from xenner import abi
from xenner._abi import lib
from xenstored.ringpage import (
    FEATURES,
    PAGE_BYTES,
    RING_BYTES,
    offset,
)
from xenstored.wire import ProtocolError, RingFault

_RSP = offset("rsp")
# Indices of the fields behind the two rings, in 32-bit words.
_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD, _FEATURES, _CONNECTION, _ERROR = (
    offset(field) // 4
    for field in (
        *("req_cons", "req_prod", "rsp_cons", "rsp_prod"),
        *("server_features", "connection", "error"),
    )
)
_MASK = (1 << 32) - 1


class Ring:
    """The store's end of one page, which the caller has mapped.

    `page` must stay mapped until `release`.
    """

    def __init__(self, page: memoryview) -> None:
        self._bytes = page.cast("B")[:PAGE_BYTES]
        # A view of words: each field is read and written in one piece.
        self._words = self._bytes.cast("I")
        self._cons = 0

    def release(self) -> None:
        """Let go of the memory; the ring is not used again."""
        self._words.release()
        self._bytes.release()

    def open(self, *, is_new: bool) -> None:
        """Say what we can do; empty the rings of a new connection."""
        if is_new:
            for index in (_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD):
                self._words[index] = 0
        self._words[_ERROR] = RingFault.NONE
        self._words[_FEATURES] = FEATURES
        # The introducer may have set it to make the guest wait.
        self._words[_CONNECTION] = abi.XENSTORE_CONNECTED

    @property
    def wants_reconnection(self) -> bool:
        """Has the guest asked for a new start? Then `open` is the answer."""
        return self._words[_CONNECTION] == abi.XENSTORE_RECONNECT

    def fail(self, fault: RingFault) -> None:
        """Tell the guest why there will be no more replies."""
        self._words[_ERROR] = fault

    def requests(self) -> bytes:
        """A copy of what the guest has sent and was not `consumed` yet.

        Raises ProtocolError if the indices make no sense.
        """
        cons, prod = self._words[_REQ_CONS], self._words[_REQ_PROD]
        self._cons = cons
        count = _distance(cons, prod)
        if not count:
            return b""
        start = cons % RING_BYTES
        data = bytes(self._bytes[start : min(start + count, RING_BYTES)])
        if len(data) < count:
            data += bytes(self._bytes[: count - len(data)])
        return data

    def consume(self, count: int) -> bool:
        """Give back the room of so many bytes that `requests` returned.

        True: there is more. It has to be looked at, because the guest does
        not notify of what it writes before it sees that we caught up.
        """
        self._cons = (self._cons + count) & _MASK
        self._words[_REQ_CONS] = self._cons
        lib.memory_barrier()
        return self._words[_REQ_PROD] != self._cons

    def put_replies(self, data: bytes) -> int:
        """Send as much as fits; returns how many bytes that was.

        Raises ProtocolError if the indices make no sense.
        """
        cons, prod = self._words[_RSP_CONS], self._words[_RSP_PROD]
        room = RING_BYTES - _distance(cons, prod)
        count = min(len(data), room)
        if not count:
            return 0
        start = prod % RING_BYTES
        first = min(count, RING_BYTES - start)
        self._bytes[_RSP + start : _RSP + start + first] = data[:first]
        if count > first:
            self._bytes[_RSP : _RSP + count - first] = data[first:count]
        # x86 keeps the order of stores: the bytes are seen before the index.
        self._words[_RSP_PROD] = (prod + count) & _MASK
        if count == room:
            # A guest that finds the ring full notifies when it has made room.
            # One that made it before could see that is seen by the next call,
            # also where the data fitted to the byte.
            lib.memory_barrier()
        return count


def _distance(cons: int, prod: int) -> int:
    count = (prod - cons) & _MASK
    if count > RING_BYTES:
        text = f"ring indices {cons} and {prod}"
        raise ProtocolError(text, fault=RingFault.RINGIDX)
    return count
