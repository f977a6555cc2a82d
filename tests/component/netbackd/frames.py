# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames as a guest's kernel makes them, and checksums as a peer sees them."""

import socket
import struct

HOST_MAC = bytes.fromhex("feffffffffff")
GUEST_MAC = bytes.fromhex("00163e000001")
TCP, UDP, ICMP6 = 6, 17, 58
_TEST = 0x88B5  # for experiments


def frame(payload: bytes, *, kind: int = _TEST, vid: int = 0) -> bytes:
    """An Ethernet frame from the guest to everybody."""
    tag = struct.pack("!HH", 0x8100, vid) if vid else b""
    head = b"\xff" * 6 + GUEST_MAC + tag + struct.pack("!H", kind)
    return head + payload


def ip4(protocol: int, segment: bytes, *, total: int | None = None) -> bytes:
    """`total` is what it says of its length, if that is to be a lie."""
    length = 20 + len(segment) if total is None else total
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, length, 7, 0, 64, protocol, 0,
        socket.inet_aton("10.9.0.2"), socket.inet_aton("10.9.0.1"),
    )  # fmt: skip
    check = ones_sum(head) ^ 0xFFFF
    return head[:10] + struct.pack("!H", check) + head[12:] + segment


def ip6(protocol: int, segment: bytes) -> bytes:
    return struct.pack(
        "!IHBB16s16s", 6 << 28, len(segment), protocol, 64,
        socket.inet_pton(socket.AF_INET6, "fd00::2"),
        socket.inet_pton(socket.AF_INET6, "fd00::1"),
    ) + segment  # fmt: skip


def ip6_icmp(message: bytes, source: str, destination: str) -> bytes:
    """From a neighbour, with its checksum."""
    addresses = b"".join(
        socket.inet_pton(socket.AF_INET6, text)
        for text in (source, destination)
    )
    pseudo = addresses + struct.pack("!II", len(message), ICMP6)
    check = ones_sum(pseudo + message) ^ 0xFFFF
    head = struct.pack("!IHBB", 6 << 28, len(message), ICMP6, 255)
    body = message[:2] + struct.pack("!H", check) + message[4:]
    return head + addresses + body


def udp(payload: bytes) -> bytes:
    """Its checksum is left blank."""
    return struct.pack("!HHHH", 1000, 2000, 8 + len(payload), 0) + payload


def tcp(payload: bytes, *, flags: int = 0x18) -> bytes:
    """Likewise."""
    return struct.pack(
        "!HHIIBBHHH", 1000, 2000, 1, 1, 5 << 4, flags, 65535, 0, 0
    ) + payload  # fmt: skip


def ones_sum(data: bytes) -> int:
    """RFC 1071, not inverted."""
    if len(data) % 2:
        data += b"\0"
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_sound(packet: bytes) -> bool:
    """Does the transport checksum of an Ethernet frame hold?"""
    at = 12
    while packet[at : at + 2] == b"\x81\x00":
        at += 4
    kind, at = packet[at : at + 2], at + 2
    if kind == b"\x08\x00":
        addresses, protocol = packet[at + 12 : at + 20], packet[at + 9]
        (total,) = struct.unpack_from("!H", packet, at + 2)
        segment = packet[at + 20 : at + total]
    else:
        addresses, protocol = packet[at + 8 : at + 40], packet[at + 6]
        (total,) = struct.unpack_from("!H", packet, at + 4)
        segment = packet[at + 40 : at + 40 + total]
    pseudo = addresses + struct.pack("!II", len(segment), protocol)
    return ones_sum(pseudo + segment) == 0xFFFF
