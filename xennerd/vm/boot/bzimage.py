# SPDX-License-Identifier: GPL-2.0-or-later
"""Unwrap a kernel file: bzImage header and every compression in use.

The result is a raw ELF image. Facts: Linux Documentation/arch/x86/boot.rst
(header fields) and scripts/Makefile.lib (how the payload is packed).
"""

import bz2
import lzma
import mmap
import struct
import zlib
from typing import Protocol

MAX_KERNEL_BYTES = 512 << 20
"""No kernel inflates to more than this; what does is a bomb."""

_LZMA_MEMORY_BYTES = 320 << 20
_LZ4_LEGACY_MAGIC = 0x184C2102
_LZ4_LEGACY_BLOCK_BYTES = 8 << 20
_ZSTD_PIECE_BYTES = 4096

_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"BZh", "bzip2"),
    (b"\x02\x21\x4c\x18", "lz4 (legacy)"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89LZO\x00\r\n\x1a\n", "lzo"),
)


class ImageError(Exception):
    """The file's bytes are no kernel; the text goes to the operator."""


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


def unwrap_kernel(image: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """Return the ELF file inside `image`: a bzImage, compressed or plain ELF.

    Raises ImageError when there is none or it is damaged.
    """
    if image[:4] == b"\x7fELF":
        return image
    payload, size_bytes = memoryview(image), MAX_KERNEL_BYTES
    if image[0x202:0x206] == b"HdrS":
        payload, size_bytes = _bzimage_payload(image)
    if bytes(payload[:4]) == b"\x7fELF":
        return bytes(payload)
    method = compression(payload)
    if method is None:
        raise ImageError(
            "not a kernel: neither a bzImage nor an ELF file, "
            "and in no known compression"
        )
    elf = _inflate(method, payload, size_bytes)
    if elf[:4] != b"\x7fELF":
        raise ImageError(f"not a kernel: its {method} data holds no ELF file")
    return elf


def compression(data: bytes | memoryview) -> str | None:
    """Name the compression that `data` begins with, None if unknown."""
    head = bytes(data[:16])
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    return None


def _bzimage_payload(image: bytes | mmap.mmap) -> tuple[memoryview, int]:
    """The compressed payload without its size word, and that size in bytes."""
    if len(image) < 0x250:
        raise ImageError("truncated bzImage: the header is not complete")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise ImageError(
            f"bzImage of boot protocol {version >> 8}.{version & 0xFF:02}: "
            "too old to carry a Xen PV kernel (2.08 is needed)"
        )
    setup_sects = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    end = start + length
    if length < 8 or end > len(image):
        raise ImageError(
            f"truncated bzImage: the payload ends at byte {end}, "
            f"the file at {len(image)}"
        )
    (size_bytes,) = struct.unpack_from("<I", image, end - 4)
    if size_bytes > MAX_KERNEL_BYTES:
        raise ImageError(
            f"corrupt bzImage: claims to inflate to {size_bytes >> 20} MiB"
        )
    # Gzip's own trailer is that size word; the others have it appended.
    payload = memoryview(image)[start:end]
    packed = payload[: length - 4]
    return (payload if compression(payload) == "gzip" else packed), size_bytes


def _inflate(method: str, data: memoryview, size_bytes: int) -> bytes:
    """Decompress at most `size_bytes`; ImageError when damaged or longer."""
    try:
        elf = _run(method, data, size_bytes + 1)
    except (EOFError, ValueError, OSError, RuntimeError) as error:
        raise ImageError(f"corrupt {method} data: {error}") from error
    except (zlib.error, lzma.LZMAError, struct.error) as error:
        raise ImageError(f"corrupt {method} data: {error}") from error
    if len(elf) > size_bytes:
        raise ImageError(
            f"corrupt {method} data: longer than {size_bytes} bytes"
        )
    return elf


def _run(method: str, data: memoryview, limit_bytes: int) -> bytes:
    match method:
        case "gzip":
            return _gzip(data, limit_bytes)
        case "xz":
            return _stream(
                lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY_BYTES),
                data,
                limit_bytes,
            )
        case "lzma":
            return _stream(
                lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_MEMORY_BYTES),
                data,
                limit_bytes,
            )
        case "bzip2":
            return _stream(bz2.BZ2Decompressor(), data, limit_bytes)
        case "zstd":
            return _zstd(data, limit_bytes)
        case "lz4":
            return _lz4_frame(data, limit_bytes)
        case "lz4 (legacy)":
            return _lz4_legacy(data, limit_bytes)
    raise ImageError(
        f"{method} compression is not supported; "
        "repack the kernel with another one (extract-vmlinux)"
    )


def _stream(inflater: _Inflater, data: memoryview, limit_bytes: int) -> bytes:
    out = inflater.decompress(data, limit_bytes)  # type: ignore[arg-type]
    if not inflater.eof and len(out) < limit_bytes:
        raise EOFError("it ends too early")
    return out


def _gzip(data: memoryview, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    out = inflater.decompress(data, limit_bytes)
    if not inflater.eof and len(out) < limit_bytes:
        raise EOFError("it ends too early")
    return out


def _zstd(data: memoryview, limit_bytes: int) -> bytes:
    # Imported here: only such kernels pay for loading it.
    import zstandard

    try:
        # One shot when the frame tells its size, which is twice as fast.
        frame = zstandard.get_frame_parameters(data)
        if 0 < frame.content_size < limit_bytes:
            return zstandard.ZstdDecompressor().decompress(data)
        # It has no limit of its own, and four bytes may be 128 KiB of zeros.
        inflater = zstandard.ZstdDecompressor().decompressobj()
        out = bytearray()
        for start in range(0, len(data), _ZSTD_PIECE_BYTES):
            out += inflater.decompress(data[start : start + _ZSTD_PIECE_BYTES])
            if inflater.eof or len(out) >= limit_bytes:
                return bytes(out)
    except zstandard.ZstdError as error:
        raise ValueError(error) from error
    raise EOFError("it ends too early")


def _lz4_frame(data: memoryview, limit_bytes: int) -> bytes:
    import lz4.frame

    inflater = lz4.frame.LZ4FrameDecompressor()
    return _stream(inflater, data, limit_bytes)


def _lz4_legacy(data: memoryview, limit_bytes: int) -> bytes:
    """Linux's lz4: `lz4 -l`, a magic and then blocks of 8 MiB each."""
    import lz4.block

    out = bytearray()
    at = 4
    while at < len(data) and len(out) < limit_bytes:
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length == _LZ4_LEGACY_MAGIC:
            continue  # Concatenated streams.
        if length == 0 or length > len(data) - at:
            raise EOFError("it ends too early")
        try:
            out += lz4.block.decompress(
                data[at : at + length],
                uncompressed_size=_LZ4_LEGACY_BLOCK_BYTES,
            )
        except lz4.block.LZ4BlockError as error:
            raise ValueError(error) from error
        at += length
    return bytes(out)
