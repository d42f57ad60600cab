"""Messages to and from the JSON form of objects: each message compiled into two closures on first use.

Absent, null and empty are kept apart as far as protobuf can: what is not in the JSON is not written, and what is
written zero comes back zero, for the kind's schema to drop or keep.

Source: k8s.io/api generated.proto.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from machinery.api.protobuf import special, table
from machinery.api.protobuf.table import Field
from machinery.api.protobuf.wire import (
    BYTES,
    FIXED64,
    VARINT,
    DecodeError,
    read_bytes,
    read_double,
    read_varint,
    signed,
    skip,
    tag,
    varint,
)

Encode = Callable[[Any], bytes]
"""A JSON value → the bytes of a message, or of a scalar without its tag."""

Decode = Callable[[bytes, int], Any]
"""(bytes of a message, depth) → a JSON value."""

_MAX_DEPTH: Final = 100
_WIRE: Final = {"s": BYTES, "y": BYTES, "b": VARINT, "i": VARINT, "l": VARINT, "d": FIXED64}


def _encode_string(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return varint(len(data)) + data


def _encode_base64(value: Any) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError):
        raise ValueError(f"not base64: {value!r:.40}") from None
    return varint(len(data)) + data


def _encode_bool(value: Any) -> bytes:
    return b"\x01" if value else b"\x00"


def _encode_double(value: Any) -> bytes:
    return struct.pack("<d", value)


_ENCODE: Final[dict[str, Encode]] = {
    "s": _encode_string,
    "y": _encode_base64,
    "b": _encode_bool,
    "i": varint,
    "l": varint,
    "d": _encode_double,
}


@cache
def encoder(message: str) -> Encode:
    """The function that writes a message. Raises KeyError if there is none of this name."""
    if message in special.CODECS:
        return special.CODECS[message][0]
    listed = table.fields(message)
    if message in special.UNIONS:
        plain = _message_encoder(listed)
        return lambda value: plain(special.union_to_fields(message, value))
    if _is_wrapper(listed):
        write = _field_encoder(listed[0])
        return lambda value: write(value)
    return _message_encoder(listed)


def _is_wrapper(fields: list[Field]) -> bool:
    """A message that stands for a plain list in JSON (ExtraValue, Verbs)."""
    return len(fields) == 1 and fields[0].name == "items" and fields[0].type in table.SCALARS


def _message_encoder(fields: list[Field]) -> Encode:
    plan: list[tuple[str, Encode]] = []
    inline: list[tuple[str, Encode]] = []
    for field in fields:
        if field.inline:
            inline.append((field.name, _inline_encoder(field)))
        else:
            plan.append((field.name, _field_encoder(field)))

    def encode(value: Any) -> bytes:
        parts = []
        for name, write in plan:
            item = value.get(name)
            if item is not None:
                parts.append(write(item))
        for _, write in inline:
            parts.append(write(value))
        return b"".join(parts)

    return encode


def _inline_encoder(field: Field) -> Encode:
    head = tag(field.number, BYTES)

    def encode(value: Any) -> bytes:
        data = encoder(field.type)(value)
        return head + varint(len(data)) + data if data else b""

    return encode


def _field_encoder(field: Field) -> Encode:
    """The function that writes a field with its tag, all items of a repeated one and all entries of a map."""
    head = tag(field.number, BYTES if field.map else _WIRE.get(field.type, BYTES))
    one = _ENCODE.get(field.type) or _nested_encoder(field.type)
    if field.map:
        value_head = tag(2, _WIRE.get(field.type, BYTES))

        def encode_map(value: Any) -> bytes:
            parts = []
            for key in sorted(value):
                item = value[key]
                entry = b"\x0a" + _encode_string(key)
                if item is not None:
                    entry += value_head + one(item)
                parts.append(head + varint(len(entry)) + entry)
            return b"".join(parts)

        return encode_map
    if field.repeated:
        return lambda value: b"".join([head + one(item) for item in value])
    return lambda value: head + one(value)


def _nested_encoder(message: str) -> Encode:
    def encode(value: Any) -> bytes:
        data = encoder(message)(value)
        return varint(len(data)) + data

    return encode


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


_FROM_VARINT: Final[dict[str, Callable[[int], Any]]] = {"b": bool, "i": _int32, "l": signed}


def _read_scalar(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    if kind == "s":
        raw, at = read_bytes(data, at)
        return raw.decode("utf-8", "replace"), at
    if kind == "y":
        raw, at = read_bytes(data, at)
        return base64.b64encode(raw).decode(), at
    if kind == "d":
        return read_double(data, at)
    number, at = read_varint(data, at)
    return _FROM_VARINT[kind](number), at


@cache
def decoder(message: str) -> Decode:
    """The function that reads a message. Raises KeyError if there is none of this name."""
    if message in special.CODECS:
        read = special.CODECS[message][1]
        return lambda data, _: read(data)
    listed = table.fields(message)
    plain = _message_decoder(listed)
    if message in special.UNIONS:
        return lambda data, depth: special.union_from_fields(message, plain(data, depth))
    if _is_wrapper(listed):
        return lambda data, depth: plain(data, depth).get("items", [])
    return plain


Reader = Callable[[bytes, int, dict[str, Any], int], int]
"""(data, where the field's value begins, the object to put it into, depth) → where the rest begins."""


def _message_decoder(fields: list[Field]) -> Decode:
    readers: dict[int, Reader] = {}
    names: dict[int, str] = {}
    for field in fields:
        names[field.number] = field.name
        if field.type in table.SCALARS and not field.map:
            readers[field.number << 3 | _WIRE[field.type]] = _scalar_reader(field)
            if field.repeated and _WIRE[field.type] != BYTES:
                readers[field.number << 3 | BYTES] = _packed_reader(field)
        else:
            readers[field.number << 3 | BYTES] = _nested_reader(field)

    def decode(data: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise DecodeError("message nested too deeply")
        made: dict[str, Any] = {}
        at, end = 0, len(data)
        while at < end:
            key = data[at]
            at += 1
            if key > 127:
                key, at = read_varint(data, at - 1)
            reader = readers.get(key)
            if reader is not None:
                at = reader(data, at, made, depth)
            elif key >> 3 in names:
                raise DecodeError(f"proto: wrong wireType = {key & 7} for field {names[key >> 3]}")
            else:
                at = skip(data, at, key & 7)
        return made

    return decode


def _scalar_reader(field: Field) -> Reader:
    name, kind = field.name, field.type
    if field.repeated:

        def read_item(data: bytes, at: int, made: dict[str, Any], _: int) -> int:
            value, at = _read_scalar(kind, data, at)
            made.setdefault(name, []).append(value)
            return at

        return read_item
    if kind == "s":

        def read_string(data: bytes, at: int, made: dict[str, Any], _: int) -> int:
            raw, at = read_bytes(data, at)
            made[name] = raw.decode("utf-8", "replace")
            return at

        return read_string

    def read(data: bytes, at: int, made: dict[str, Any], _: int) -> int:
        made[name], at = _read_scalar(kind, data, at)
        return at

    return read


def _packed_reader(field: Field) -> Reader:
    def read(data: bytes, at: int, made: dict[str, Any], _: int) -> int:
        packed, at = read_bytes(data, at)
        inside = 0
        items = made.setdefault(field.name, [])
        while inside < len(packed):
            value, inside = _read_scalar(field.type, packed, inside)
            items.append(value)
        return at

    return read


def _nested_reader(field: Field) -> Reader:
    """Put a message, or an entry of a map, where it belongs."""
    name, message = field.name, field.type

    def read(data: bytes, at: int, made: dict[str, Any], depth: int) -> int:
        raw, at = read_bytes(data, at)
        if field.map:
            key, value = _entry(field, raw, depth)
            made.setdefault(name, {})[key] = value
        elif field.inline:
            made.update(decoder(message)(raw, depth + 1))
        elif field.repeated:
            made.setdefault(name, []).append(decoder(message)(raw, depth + 1))
        else:
            made[name] = decoder(message)(raw, depth + 1)
        return at

    return read


def _entry(field: Field, raw: bytes, depth: int) -> tuple[str, Any]:
    key = ""
    value: Any = None
    at = 0
    while at < len(raw):
        head, at = read_varint(raw, at)
        if head >> 3 == 1 and head & 7 == BYTES:
            key, at = _read_scalar("s", raw, at)
        elif head >> 3 == 2 and field.type in table.SCALARS and head & 7 == _WIRE[field.type]:
            value, at = _read_scalar(field.type, raw, at)
        elif head >> 3 == 2 and field.type not in table.SCALARS and head & 7 == BYTES:
            inner, at = read_bytes(raw, at)
            value = decoder(field.type)(inner, depth + 1)
        else:
            at = skip(raw, at, head & 7)
    return key, value
