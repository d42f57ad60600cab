"""Protocol buffers on the wire: varints, tags, length-delimited fields.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_SHORT: Final = tuple(bytes([n]) for n in range(128))


class DecodeError(ValueError):
    """The bytes are no such message."""


def varint(number: int) -> bytes:
    """An integer of at most 64 bits; negative ones take ten bytes."""
    if 0 <= number < 128:
        return _SHORT[number]
    if number < 0:
        number += 1 << 64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field."""
    return varint(number << 3 | wire_type)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(unsigned value, where the rest begins). Raises DecodeError."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise DecodeError("proto: integer overflow")
    except IndexError:
        raise DecodeError("unexpected EOF") from None


def signed(value: int) -> int:
    """The two's complement meaning of a 64-bit value."""
    return value - (1 << 64) if value >> 63 else value


def read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """A length-delimited field. Raises DecodeError."""
    size = data[at] if at < len(data) else 128
    at += 1
    if size > 127:
        size, at = read_varint(data, at - 1)
    end = at + size
    if end > len(data):
        raise DecodeError("unexpected EOF")
    return data[at:end], end


def read_double(data: bytes, at: int) -> tuple[float, int]:
    """A fixed64 field as a double. Raises DecodeError."""
    if at + 8 > len(data):
        raise DecodeError("unexpected EOF")
    return struct.unpack_from("<d", data, at)[0], at + 8


def skip(data: bytes, at: int, wire_type: int) -> int:
    """Where the field after an unknown one begins. Raises DecodeError."""
    if wire_type == VARINT:
        return read_varint(data, at)[1]
    if wire_type == BYTES:
        return read_bytes(data, at)[1]
    size = {FIXED64: 8, FIXED32: 4}.get(wire_type)
    if size is None:
        raise DecodeError(f"proto: illegal wireType {wire_type}")
    if at + size > len(data):
        raise DecodeError("unexpected EOF")
    return at + size
