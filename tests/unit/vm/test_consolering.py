# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the PV console ring, against any guest."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennerd.vm.console.ring import IN_BYTES, OUT_BYTES, ConsoleRing

GPA = 4096
IN_CONS, IN_PROD, OUT_CONS, OUT_PROD = 3072, 3076, 3080, 3084
U32 = st.integers(min_value=0, max_value=(1 << 32) - 1)


class Page:
    """The page as the guest sees it."""

    def __init__(self) -> None:
        self.memory = bytearray(3 * 4096)

    def get(self, at: int) -> int:
        value: int = struct.unpack_from("<I", self.memory, GPA + at)[0]
        return value

    def put(self, at: int, value: int) -> None:
        struct.pack_into("<I", self.memory, GPA + at, value % (1 << 32))

    def write(self, data: bytes) -> None:
        """Print, as a guest does that has room."""
        prod = self.get(OUT_PROD)
        for i, byte in enumerate(data):
            self.memory[GPA + 1024 + (prod + i) % OUT_BYTES] = byte
        self.put(OUT_PROD, prod + len(data))

    def read(self) -> bytes:
        """Take all that was typed."""
        cons, prod = self.get(IN_CONS), self.get(IN_PROD)
        count = (prod - cons) % (1 << 32)
        data = bytes(
            self.memory[GPA + (cons + i) % IN_BYTES] for i in range(count)
        )
        self.put(IN_CONS, prod)
        return data


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def ring(page: Page) -> Iterator[ConsoleRing]:
    ring = ConsoleRing(memoryview(page.memory), GPA)
    yield ring
    ring.release()


def test_output_comes_once_and_frees_its_room(
    page: Page, ring: ConsoleRing
) -> None:
    page.write(b"hello")
    assert ring.take_output() == b"hello"
    assert page.get(OUT_CONS) == 5
    assert ring.take_output() == b""


def test_full_output_ring(page: Page, ring: ConsoleRing) -> None:
    data = bytes(i % 251 for i in range(OUT_BYTES))
    page.put(OUT_CONS, 100)
    page.put(OUT_PROD, 100)
    page.write(data)
    assert ring.take_output() == data


def test_indices_run_over(page: Page, ring: ConsoleRing) -> None:
    for at in (IN_CONS, IN_PROD, OUT_CONS, OUT_PROD):
        page.put(at, (1 << 32) - 3)
    page.write(b"0123456789")
    assert ring.take_output() == b"0123456789"
    assert page.get(OUT_CONS) == 7
    assert ring.put_input(b"abcdef") == 6
    assert page.get(IN_PROD) == 3
    assert page.read() == b"abcdef"


def test_input_is_taken_as_far_as_it_fits(
    page: Page, ring: ConsoleRing
) -> None:
    data = bytes(i % 251 for i in range(IN_BYTES + 10))
    assert ring.put_input(data) == IN_BYTES
    assert ring.put_input(data) == 0
    assert page.read() == data[:IN_BYTES]
    assert ring.put_input(data[IN_BYTES:]) == 10


@given(data=st.lists(st.binary(max_size=OUT_BYTES), max_size=8), start=U32)
def test_everything_printed_arrives_in_order(
    data: list[bytes], start: int
) -> None:
    page = Page()
    page.put(OUT_CONS, start)
    page.put(OUT_PROD, start)
    ring = ConsoleRing(memoryview(page.memory), GPA)
    got = b""
    for piece in data:
        page.write(piece)
        got += ring.take_output()
    assert got == b"".join(data)


@given(
    indices=st.tuples(U32, U32, U32, U32),
    typed=st.binary(max_size=2 * IN_BYTES),
)
def test_no_indices_harm(
    indices: tuple[int, int, int, int], typed: bytes
) -> None:
    page = Page()
    for at, value in zip(
        (IN_CONS, IN_PROD, OUT_CONS, OUT_PROD), indices, strict=True
    ):
        page.put(at, value)
    before = bytes(page.memory)
    ring = ConsoleRing(memoryview(page.memory), GPA)
    in_used = (indices[1] - indices[0]) % (1 << 32)
    out_used = (indices[3] - indices[2]) % (1 << 32)
    assert len(ring.take_output()) == (out_used if out_used <= OUT_BYTES else 0)
    # Drained either way: one bad index does not stop the console for good.
    assert ring.take_output() == b""
    room = max(0, IN_BYTES - in_used)
    assert ring.put_input(typed) == min(len(typed), room)
    bad = (out_used > OUT_BYTES) + (in_used > IN_BYTES)
    assert ring.nr_bad_indices == bad
    # Nothing outside the page was touched.
    assert page.memory[:GPA] == before[:GPA]
    assert page.memory[GPA + 4096 :] == before[GPA + 4096 :]
