# SPDX-License-Identifier: GPL-2.0-or-later
"""What frontends of all ages write of their rings."""

from __future__ import annotations

import pytest

from blkbackd.engine import ABIS, Ring
from blkbackd.frontend import read_rings
from xenner.errors import GuestError
from xenner.types import Domid, GrantRef, Port

_DOMID = Domid(7)
_WIDE, _NARROW = ABIS["x86_64-abi"], ABIS["x86_32-abi"]
# The first ones there were, and boot loaders, write no more than this.
_FIRST = {"ring-ref": "8", "event-channel": "3"}
_TWO_PAGES = {"ring-page-order": "1", "ring-ref0": "8", "ring-ref1": "9"}
_TWO_QUEUES = {
    "multi-queue-num-queues": "2",
    "queue-0/ring-ref": "8",
    "queue-0/event-channel": "3",
    "queue-1/ring-ref": "9",
    "queue-1/event-channel": "4",
}


def _ring(*refs: int, port: int = 3, abi: int = _WIDE) -> Ring:
    return Ring(_DOMID, Port(port), abi, tuple(map(GrantRef, refs)))


def _read(nodes: dict[str, str]) -> list[Ring]:
    return read_rings(nodes.get, _DOMID)


@pytest.mark.parametrize(
    ("nodes", "rings"),
    [
        (_FIRST, [_ring(8)]),
        (_FIRST | {"protocol": "x86_32-abi"}, [_ring(8, abi=_NARROW)]),
        (_FIRST | {"protocol": "x86_64-abi"}, [_ring(8)]),
        (_FIRST | {"protocol": ""}, [_ring(8)]),
        (_FIRST | {"feature-persistent": "1"}, [_ring(8)]),
        (_FIRST | {"multi-queue-num-queues": "1"}, [_ring(8)]),
        # One page, by either name.
        (_FIRST | {"ring-page-order": "0"}, [_ring(8)]),
        (_FIRST | {"ring-page-order": "0", "ring-ref0": "9"}, [_ring(9)]),
        (_FIRST | {"ring-page-order": "0", "ring-ref0": ""}, [_ring(8)]),
        ({"event-channel": "3", **_TWO_PAGES}, [_ring(8, 9)]),
        # What another has left, before or behind its own.
        (_FIRST | {"ring-ref0": "77", "ring-ref1": "78"}, [_ring(8)]),
        ({**_FIRST, **_TWO_PAGES, "ring-ref": "77"}, [_ring(8, 9)]),
        (_FIRST | {"queue-0/ring-ref": "77"}, [_ring(8)]),
        (_TWO_QUEUES, [_ring(8), _ring(9, port=4)]),
        (
            _TWO_QUEUES
            | {
                "protocol": "x86_32-abi",
                "ring-page-order": "1",
                "queue-0/ring-ref0": "10",
                "queue-0/ring-ref1": "11",
                "queue-1/ring-ref0": "12",
                "queue-1/ring-ref1": "13",
            },
            [
                _ring(10, 11, abi=_NARROW),
                _ring(12, 13, port=4, abi=_NARROW),
            ],
        ),
    ],
)
def test_rings(nodes: dict[str, str], rings: list[Ring]) -> None:
    assert _read(nodes) == rings


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ({}, "event-channel is no number: None"),
        ({"ring-ref": "8"}, "event-channel is no number"),
        ({"event-channel": "3"}, "ring-ref is no number"),
        (_FIRST | {"ring-ref": ""}, "ring-ref is no number: ''"),
        (_FIRST | {"ring-ref": "4294967296"}, "ring-ref is too large"),
        (_FIRST | {"protocol": "X86_64-ABI"}, "unknown protocol 'X86_64-ABI'"),
        (_FIRST | {"ring-page-order": ""}, "ring-page-order is no number"),
        (_FIRST | {"ring-page-order": "-1"}, "ring-page-order is no number"),
        (_FIRST | {"ring-page-order": "5"}, "ring-page-order is too large"),
        (_FIRST | {"ring-page-order": "1"}, "ring-ref0 is no number"),
        (
            _FIRST | {"ring-page-order": "1", "ring-ref0": "8"},
            "ring-ref1 is no number",
        ),
        (_TWO_QUEUES | {"multi-queue-num-queues": "3"}, "queue-2/event-chan"),
        (_TWO_QUEUES | {"multi-queue-num-queues": "0"}, "no queues"),
        (_TWO_QUEUES | {"multi-queue-num-queues": "5"}, "too large"),
    ],
)
def test_what_makes_no_sense(nodes: dict[str, str], text: str) -> None:
    with pytest.raises(GuestError, match=text):
        _read(nodes)
