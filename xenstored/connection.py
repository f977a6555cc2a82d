# SPDX-License-Identifier: GPL-2.0-or-later
"""One client of the store: bytes in, bytes out, whatever carries them.

What a client can make the store keep for it is bounded: requests are not
taken while it does not take replies, and of its events no more than one for
each watch are kept beyond a limit. Such an event has the watch's own path,
which says as much to a client: look again.
"""

from abc import ABC, abstractmethod
from time import monotonic_ns
from typing import Any

from xenstored.paths import Parts
from xenstored.quotas import Quotas
from xenstored.watches import Watch
from xenstored.wire import (
    HEADER,
    PAYLOAD_MAX,
    MessageType,
    ProtocolError,
    first_bytes,
    message,
)

_HEADER_BYTES = HEADER.size
_SOCKET_UNSENT_MAX = 256 << 10
# A domain's share of one turn; a single request may cost several times that.
_SHARE_NS = 1_000_000
_EVENT = MessageType.WATCH_EVENT


class Connection(ABC):
    """What a client has sent, and what it has not taken yet.

    The transport gives it what arrives (`receive`) and sends what it is given
    (`take_output`). What its requests do, and to what, is its heir's.
    """

    def __init__(self, quotas: Quotas, *, is_privileged: bool) -> None:
        self.is_privileged = is_privileged
        self._quotas = quotas
        self._input = b""
        self._output: list[bytes] = []
        self._events: set[bytes] = set()
        self._event_bytes = 0
        self._reply_bytes = 0
        self._nr_replies = 0

    def receive(self, data: bytes, *, most: int = 64) -> bool:
        """Handle up to `most` requests, those left from earlier calls first;
        of a domain one, and more for a millisecond.

        Returns whether a further whole request waits. Raises ProtocolError
        if the stream cannot be followed any further.
        """
        if self._input:
            data = self._input + data
        handle = self._handle
        until_ns = 0
        at, end = 0, len(data)
        has_more = False
        while end - at >= _HEADER_BYTES:
            kind, req_id, tx_id, size = HEADER.unpack_from(data, at)
            if size > PAYLOAD_MAX:
                raise ProtocolError(f"a payload of {size} bytes")
            after = at + _HEADER_BYTES + size
            if after > end:
                break
            if not most or self.is_full:
                has_more = True
                break
            most -= 1
            handle(kind, req_id, tx_id, data[at + _HEADER_BYTES : after])
            at = after
            if at < end and not self.is_privileged:
                # Most send one at a time: no clock for those.
                now_ns = monotonic_ns()
                until_ns = until_ns or now_ns + _SHARE_NS
                if now_ns >= until_ns:
                    most = 0
        self._input = data[at:]
        return has_more

    def give_back(self) -> int:
        """How many bytes it has received and not handled; they come again."""
        size_bytes, self._input = len(self._input), b""
        return size_bytes

    @property
    def is_midway(self) -> bool:
        """Has it received something that it has not handled yet?"""
        return bool(self._input)

    @property
    def missing_bytes(self) -> int:
        """What lacks of the request that it has received a part of, or of
        its header."""
        wanted = first_bytes(self._input) or HEADER.size
        return max(0, wanted - len(self._input))

    @property
    def is_full(self) -> bool:
        """Must it take replies before its requests are taken?"""
        if self.is_privileged:
            return self._reply_bytes >= _SOCKET_UNSENT_MAX
        return self._nr_replies >= self._quotas.outstanding

    @property
    def has_output(self) -> bool:
        return bool(self._output)

    @property
    def output_bytes(self) -> int:
        """What waits for `take_output`."""
        return self._reply_bytes + self._event_bytes

    def reply(self, kind: int, req_id: int, tx_id: int, payload: bytes) -> None:
        """Queue the reply to a request; at most PAYLOAD_MAX bytes."""
        data = HEADER.pack(kind, req_id, tx_id, len(payload)) + payload
        if not self._output:
            self._has_first_output()
        self._output.append(data)
        self._reply_bytes += len(data)
        self._nr_replies += 1

    def send_event(self, watch: Watch[Any], parts: Parts) -> None:
        """Queue a WATCH_EVENT, unless the same one is waiting already."""
        limit = self._quotas.event_bytes
        path = watch.path
        if self._event_bytes < limit:
            path = watch.event_path(parts)
        payload = path + b"\0" + watch.token + b"\0"
        if len(payload) > PAYLOAD_MAX:
            return  # xenstored does the same: it cannot be said
        data = message(_EVENT, 0, 0, payload)
        is_special = path[:1] == b"@" and self._event_bytes < limit
        if not is_special and data in self._events:
            return
        if not self._output:
            self._has_first_output()
        self._output.append(data)
        self._events.add(data)
        self._event_bytes += len(data)

    def take_output(self) -> list[bytes]:
        """All messages that wait, in order; the transport owns them now."""
        taken, self._output = self._output, []
        self._events.clear()
        self._event_bytes = self._reply_bytes = self._nr_replies = 0
        return taken

    def reset(self) -> None:
        """As if it had just connected: nothing half-received, nothing to be
        taken."""
        self._input = b""
        self.take_output()

    @abstractmethod
    def _handle(
        self, kind: int, req_id: int, tx_id: int, payload: bytes
    ) -> None:
        """Do what a request asks, and queue the reply."""

    @abstractmethod
    def _has_first_output(self) -> None:
        """There is something to be taken, and there was nothing."""
