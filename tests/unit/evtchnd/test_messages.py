# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to bytes and back."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtchnd.messages import (
    REQUEST_BYTES,
    DomainRecord,
    Reply,
    Request,
    Type,
)
from evtchnd.ports import PortError

_u32 = st.integers(0, 2**32 - 1)
_u64 = st.integers(0, 2**64 - 1)
_records = st.builds(
    DomainRecord,
    *[_u32] * 4,
    nr_pages=_u64,
    pid=_u32,
    shutdown=_u32,
    handle=st.binary(min_size=16, max_size=16),
)


@given(
    st.builds(
        Request,
        *[_u32] * 8,
        value=st.tuples(_u64, _u64),
        domain=_records,
    )
)
def test_requests_survive(request_: Request) -> None:
    packet = request_.pack()
    assert len(packet) == REQUEST_BYTES
    assert Request.parse(packet) == request_


@given(
    st.builds(
        Reply, *[_u32] * 12, page_id=_u64, page_offset=_u64, domain=_records
    )
)
def test_replies_survive(reply: Reply) -> None:
    assert Reply.parse(reply.pack()) == reply


@given(st.binary(max_size=2 * REQUEST_BYTES))
def test_only_the_exact_size_is_a_request(packet: bytes) -> None:
    if len(packet) == REQUEST_BYTES:
        Request.parse(packet)
    else:
        with pytest.raises(PortError) as refusal:
            Request.parse(packet)
        assert refusal.value.errno == errno.EINVAL


def test_recorded_bytes() -> None:
    """A version that reads these otherwise is another version."""
    packet = bytes(range(96))
    request = Request.parse(packet)
    assert request.type == 0x03020100
    assert request.remote_port == 0x17161514
    assert request.value == (0x2726252423222120, 0x2F2E2D2C2B2A2928)
    assert request.domain.nr_pages == 0x4746454443424140
    assert request.domain.handle == bytes(range(80, 96))


def test_types_are_numbered_without_gaps() -> None:
    assert list(Type) == list(range(1, len(Type) + 1))
