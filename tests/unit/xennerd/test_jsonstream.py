# SPDX-License-Identifier: GPL-2.0-or-later
"""Cutting a stream into JSON texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennerd.qmp.jsonstream import JsonSplitter, TooLongError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=3)


def split(data: bytes, size_bytes: int = 1 << 16) -> list[bytes]:
    return JsonSplitter(max_bytes=size_bytes).feed(data)


@given(objects=st.lists(OBJECTS, max_size=5), cut=st.integers(1, 50))
def test_objects_come_out_however_they_arrive(
    objects: list[dict[str, object]], cut: int
) -> None:
    for indent in (None, 2):
        stream = "".join(
            json.dumps(o, indent=indent, ensure_ascii=False) for o in objects
        ).encode()
        splitter = JsonSplitter(max_bytes=1 << 20)
        texts = []
        for i in range(0, len(stream), cut):
            texts += splitter.feed(stream[i : i + cut])
        assert [json.loads(text) for text in texts] == objects


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b" \n\r\n", []),
        (b'{"a": "}\\""}{}', [b'{"a": "}\\""}', b"{}"]),
        (b"junk\n{}", [b"junk", b"{}"]),
        (b'{"cut\n{}', [b'{"cut', b"{}"]),
        (b"}{}", [b"}", b"{}"]),
        (b"[{}\n]", [b"[{}\n]"]),
        (b"{", []),
    ],
)
def test_where_texts_end(data: bytes, texts: list[bytes]) -> None:
    assert split(data) == texts


def test_no_text_is_longer_than_the_bound() -> None:
    with pytest.raises(TooLongError):
        split(b"{" * 101, 100)
    with pytest.raises(TooLongError):
        split(b"x" * 101, 100)
    assert split(b"{}" * 1000, 100) == [b"{}"] * 1000
