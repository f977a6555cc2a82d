# SPDX-License-Identifier: GPL-2.0-or-later
"""Every wrapping of a kernel is taken off, and every damage is noticed."""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennerd.vm.boot import bzimage
from xennerd.vm.boot.bzimage import ImageError, compression, unwrap_kernel

METHODS = (
    "gzip",
    "xz",
    "lzma",
    "bzip2",
    "lz4-legacy",
    "zstd",
    "zstd-stream",
)


@pytest.fixture(scope="session")
def elf(kernels: Any) -> bytes:
    # Text that packs badly, so that damage hits data and not only headers.
    noise = b"".join(struct.pack("<Q", i * i * 0x9E3779B1) for i in range(1500))
    segment = (0x100000, 0, noise, 0x4000)
    return bytes(kernels.elf(segments=[segment]))


@pytest.mark.parametrize("method", METHODS)
def test_bzimage(kernels: Any, elf: bytes, method: str) -> None:
    assert unwrap_kernel(kernels.bzimage(elf, method)) == elf


@pytest.mark.parametrize("method", [*METHODS, "lz4"])
def test_compressed_elf(kernels: Any, elf: bytes, method: str) -> None:
    assert unwrap_kernel(kernels.compressors[method](elf)) == elf


def test_plain_elf(elf: bytes) -> None:
    assert unwrap_kernel(elf) == elf


def test_two_blocks_of_lz4(kernels: Any) -> None:
    elf = b"\x7fELF" + bytes(9 << 20)
    assert unwrap_kernel(kernels.bzimage(elf, "lz4-legacy")) == elf


@pytest.mark.parametrize("method", METHODS)
def test_truncated(kernels: Any, elf: bytes, method: str) -> None:
    image = kernels.bzimage(elf, method)
    with pytest.raises(ImageError, match="truncated bzImage"):
        unwrap_kernel(image[: len(image) - 100])
    packed = kernels.compressors[method](elf)
    with pytest.raises(ImageError, match=r"corrupt .* data"):
        unwrap_kernel(packed[: len(packed) * 2 // 3])


@pytest.mark.parametrize("method", METHODS)
def test_longer_than_announced(kernels: Any, elf: bytes, method: str) -> None:
    with pytest.raises(ImageError, match="longer than 1000 bytes"):
        unwrap_kernel(kernels.bzimage(elf, method, size=1000))


def test_bomb(kernels: Any, elf: bytes) -> None:
    with pytest.raises(ImageError, match="claims to inflate to 1024 MiB"):
        unwrap_kernel(kernels.bzimage(elf, size=1 << 30))


def test_a_bomb_of_zstd_is_left_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not only when all of its 2 GiB are there."""
    monkeypatch.setattr(bzimage, "MAX_KERNEL_BYTES", 1 << 20)
    # RFC 8878: no size, a window of 128 KiB, blocks of one repeated byte.
    block = (1 << 1 | 1 << 17 << 3).to_bytes(3, "little") + b"\0"
    bomb = b"\x28\xb5\x2f\xfd\0\x38" + block * (1 << 14)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="longer than"):
            unwrap_kernel(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 512 << 20


def test_lzo_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match="lzo compression is not supported"):
        unwrap_kernel(b"\x89LZO\x00\r\n\x1a\n" + bytes(100))


def test_old_protocol(kernels: Any, elf: bytes) -> None:
    image = bytearray(kernels.bzimage(elf))
    struct.pack_into("<H", image, 0x206, 0x207)
    with pytest.raises(ImageError, match=r"boot protocol 2\.07"):
        unwrap_kernel(bytes(image))


@pytest.mark.parametrize("junk", [b"", b"#!/bin/sh\n", bytes(5000), b"MZ" * 99])
def test_no_kernel(junk: bytes) -> None:
    with pytest.raises(ImageError, match="not a kernel"):
        unwrap_kernel(junk)


@pytest.mark.parametrize("method", METHODS)
def test_no_elf_inside(kernels: Any, method: str) -> None:
    with pytest.raises(ImageError, match="holds no ELF file"):
        unwrap_kernel(kernels.bzimage(b"hello" * 100, method))


def test_header_only() -> None:
    with pytest.raises(ImageError, match="truncated bzImage"):
        unwrap_kernel(bytes(0x202) + b"HdrS" + bytes(10))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), method=st.sampled_from([*METHODS, "lz4"]))
def test_flipped_bits(
    kernels: Any, elf: bytes, data: st.DataObject, method: str
) -> None:
    """Damage is reported or harmless; it never surfaces as another error."""
    packed = bytearray(kernels.compressors[method](elf))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    try:
        unwrapped = unwrap_kernel(bytes(packed))
    except ImageError:
        return
    assert unwrapped[:4] == b"\x7fELF"


@given(head=st.binary(max_size=64))
def test_compression_of_anything(head: bytes) -> None:
    assert compression(head) in {
        None, "gzip", "xz", "lzma", "bzip2", "lz4", "lz4 (legacy)", "zstd",
        "lzo",
    }  # fmt: skip
