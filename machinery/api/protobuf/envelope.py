"""Whole objects in protobuf: the magic prefix, runtime.Unknown around the message, and the frames of a watch.

    data = encode(pod)                          # b"k8s\\x00…"
    pod = decode(data)                          # JSON form; zero values as the message had them

What `decode` gives still has to go through the kind's schema (`KindSchema.decode`), as JSON from a client has.

Source: k8s.io/apimachinery/pkg/runtime/serializer/protobuf; API concepts, "Kubernetes Protobuf encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from machinery.api import schema
from machinery.api.meta import Object
from machinery.api.protobuf import codec, special, table
from machinery.api.protobuf.wire import BYTES, DecodeError, tag, varint

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\x00"

_ITEMS_OF_LIST: Final = tag(2, BYTES)
_METADATA_OF_LIST: Final = tag(1, BYTES)
_META_KINDS: Final = {"Status": "meta.v1.Status", "List": "meta.v1.List"}


class UnsupportedKindError(ValueError):
    """The kind has no protobuf form (custom resources, Tables)."""


def message_of(api_version: str, kind: str) -> str:
    """The name of a kind's message in the table. Raises UnsupportedKindError."""
    group, _, version = api_version.rpartition("/")
    name = schema.load().definition_name(group, version, kind)
    message = table.message_of(name) if name else _META_KINDS.get(kind, "") if api_version == "v1" else ""
    if not name and not message and api_version == "meta.k8s.io/v1":
        message = f"meta.v1.{kind}"
    if not table.has(message):
        raise UnsupportedKindError(f'no protobuf form of kind "{kind}" in version "{api_version}"')
    return message


def supports(api_version: str, kind: str) -> bool:
    """Whether objects of the kind can be written in protobuf."""
    try:
        return bool(message_of(api_version, kind))
    except UnsupportedKindError:
        return False


def encode_message(obj: Object) -> bytes:
    """The bare message of an object, without envelope: what stands for it in a list of its kind.

    Raises:
        UnsupportedKindError: its kind has no protobuf form.
        ValueError: it holds something that is not of its field's type.
    """
    try:
        return codec.encoder(message_of(obj.get("apiVersion", ""), obj.get("kind", "")))(obj)
    except (AttributeError, TypeError, struct.error) as exc:
        raise ValueError(f"the object does not fit its protobuf message: {exc}") from exc


def envelope(api_version: str, kind: str, message: bytes) -> bytes:
    """A message as a whole document."""
    meta = _field(1, api_version.encode()) + _field(2, kind.encode())
    return MAGIC + _field(1, meta) + _field(2, message) + _field(3, b"") + _field(4, b"")


def encode(obj: Object) -> bytes:
    """An object as a whole document. Raises as `encode_message`."""
    return envelope(obj.get("apiVersion", ""), obj.get("kind", ""), encode_message(obj))


def encode_list(api_version: str, kind: str, metadata: Object, items: Iterable[bytes]) -> bytes:
    """A list as a whole document, of items already written by `encode_message`."""
    head = codec.encoder("meta.v1.ListMeta")(metadata)
    parts = [_METADATA_OF_LIST, varint(len(head)), head]
    for item in items:
        parts += (_ITEMS_OF_LIST, varint(len(item)), item)
    return envelope(api_version, kind, b"".join(parts))


def decode(data: bytes, *, default: tuple[str, str] = ("", "")) -> Object:
    """The object of a whole document; `default` is the (apiVersion, kind) of one that does not say.

    Raises:
        DecodeError: this is no such document.
        UnsupportedKindError: its kind has no protobuf form.
    """
    if not data.startswith(MAGIC):
        raise DecodeError(f"provided data does not appear to be a protobuf message, expected prefix {list(MAGIC)}")
    unknown = special.scan(data[len(MAGIC) :])
    meta = special.scan(_bytes(unknown.get(1, b"")))
    api_version = _bytes(meta.get(1, b"")).decode("utf-8", "replace") or default[0]
    kind = _bytes(meta.get(2, b"")).decode("utf-8", "replace") or default[1]
    raw = _bytes(unknown.get(2, b""))
    content_type = _bytes(unknown.get(4, b"")).decode("utf-8", "replace")
    if content_type == "application/json":
        return _json(raw)
    if content_type not in ("", CONTENT_TYPE):
        raise DecodeError(f'content type "{content_type}" inside protobuf is not understood')
    made = codec.decoder(message_of(api_version, kind))(raw, 0)
    return {"apiVersion": api_version, "kind": kind, **made}


def _json(raw: bytes) -> Object:
    try:
        made = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise DecodeError(str(exc)) from None
    if not isinstance(made, dict):
        raise DecodeError("not an object")
    return made


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise DecodeError("proto: wrong wireType in runtime.Unknown")
    return value


def _field(number: int, data: bytes) -> bytes:
    return tag(number, BYTES) + varint(len(data)) + data


def watch_frame(event: str, document: bytes) -> bytes:
    """One event of a watch: ADDED, MODIFIED, … and the object as `encode` wrote it, ready for the stream."""
    body = _field(1, event.encode()) + _field(2, _field(1, document))
    return struct.pack(">I", len(body)) + body


def watch_events(buffer: bytearray) -> Iterator[tuple[str, Object]]:
    """Take whole frames off the front of a buffer: (event, object). Raises as `decode`."""
    while len(buffer) >= 4:
        (size,) = struct.unpack_from(">I", buffer)
        if len(buffer) < 4 + size:
            return
        body = bytes(buffer[4 : 4 + size])
        del buffer[: 4 + size]
        found = special.scan(body)
        event = _bytes(found.get(1, b"")).decode("utf-8", "replace")
        document = _bytes(special.scan(_bytes(found.get(2, b""))).get(1, b""))
        yield event, decode(document)
