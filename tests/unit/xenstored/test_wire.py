# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of the protocol, and streams of any bytes."""

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.storeclient import Client, Message, new_store, parsed
from xenstored import wire
from xenstored.wire import (
    HEADER,
    PAYLOAD_MAX,
    MessageType,
    ProtocolError,
    StoreError,
    message,
)

HEADER_TEXT = Path("/usr/include/xen/io/xs_wire.h").read_text()
KINDS = st.integers(0, 24) | st.sampled_from([0xFFFF, (1 << 32) - 1])
WORDS = st.sampled_from(
    [b"/", b"/a", b"a", b"@releaseDomain", b"n0", b"b3", b"T", b"7", b"quota"]
)
PAYLOADS = st.binary(max_size=64) | st.lists(WORDS, max_size=4).map(
    lambda words: b"".join(word + b"\0" for word in words)
)


def test_message_types_are_those_of_the_header() -> None:
    text = HEADER_TEXT[HEADER_TEXT.index("enum xsd_sockmsg_type") :]
    text = text[text.index("{") + 1 : text.index("XS_TYPE_COUNT")]
    found: dict[str, int] = {}
    for name, how in re.findall(r"^ +XS_(\w+)(?: = ([^,]+))?,", text, re.M):
        if how:
            base, _, more = how.partition(" + ")
            found[name] = found[base.removeprefix("XS_")] + int(more)
        else:
            found[name] = len(found) and max(found.values()) + 1
    assert found == {kind.name: kind.value for kind in MessageType}


def test_limits_are_those_of_the_header() -> None:
    for name in ("PAYLOAD_MAX", "ABS_PATH_MAX", "REL_PATH_MAX"):
        (value,) = re.findall(rf"#define XENSTORE_{name} (\d+)", HEADER_TEXT)
        assert getattr(wire, name) == int(value)


def test_errors_are_those_of_the_header() -> None:
    assert list(wire.ERRORS) == re.findall(r"XSD_ERROR\((E\w+)\)", HEADER_TEXT)


def test_error_without_a_name_is_einval() -> None:
    assert StoreError(errno.ENOENT).payload == b"ENOENT\0"
    assert StoreError(errno.EPIPE).payload == b"EINVAL\0"


@given(st.lists(st.tuples(KINDS, PAYLOADS), max_size=20), st.data())
def test_every_request_has_one_reply_however_it_arrives(
    requests: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(
        message(kind, number, 0, payload)
        for number, (kind, payload) in enumerate(requests)
    )
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    ends = [*sorted(cuts), len(stream)]
    client = Client(new_store(), domid=data.draw(st.sampled_from([0, 3])))
    replies: list[Message] = []
    for start, end in zip([0, *ends], ends, strict=False):
        client.connection.receive(stream[start:end])
        replies += parsed(b"".join(client.connection.take_output()))
    answered = [m for m in replies if m.kind != MessageType.WATCH_EVENT]
    assert [m.req_id for m in answered] == list(range(len(requests)))
    for (kind, _), reply in zip(requests, answered, strict=True):
        assert reply.kind in (kind, MessageType.ERROR)
        assert len(reply.payload) <= PAYLOAD_MAX


@given(st.binary(max_size=400))
def test_any_bytes_are_answered_or_end_the_connection(data: bytes) -> None:
    client = Client(new_store(), domid=3)
    try:
        client.connection.receive(data)
    except ProtocolError:
        sizes = []
        while len(data) >= HEADER.size:
            sizes.append(HEADER.unpack_from(data)[3])
            data = data[HEADER.size + sizes[-1] :]
        assert max(sizes) > PAYLOAD_MAX
    parsed(b"".join(client.connection.take_output()))


def test_overlong_payload_ends_the_connection() -> None:
    client = Client(new_store())
    with pytest.raises(ProtocolError):
        client.connection.receive(HEADER.pack(2, 0, 0, PAYLOAD_MAX + 1))


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 6))
def test_whole_bytes(payloads: list[bytes], most: int) -> None:
    messages = [message(2, 0, 0, payload) for payload in payloads]
    data = b"".join(messages)
    length = sum(map(len, messages[:most]))
    assert wire.whole_bytes(data, most=most) == length
    assert wire.whole_bytes(data[:-1], most=6) == sum(map(len, messages[:-1]))
