"""How an object lies in storage, and how its resourceVersion gets into the bytes that clients see.

A stored value is the object's JSON with kind, apiVersion and metadata first and without resourceVersion, which is the
revision of the write and known only afterwards.  Putting it in is a splice at the start of metadata: the object is
neither decoded nor encoded.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from machinery.api import rawtext
from machinery.api.meta import Object

_HEAD = re.compile(rb'\{"(?:kind|apiVersion)":"[^"\\]*","(?:kind|apiVersion)":"[^"\\]*","metadata":\{')
_REVISION = re.compile(rb'"resourceVersion":"[0-9]*",?')


def encode(obj: Object) -> bytes:
    """The bytes to store for an object."""
    rest = {k: v for k, v in obj.items() if k not in ("kind", "apiVersion", "metadata")}
    metadata = obj["metadata"]
    if "resourceVersion" in metadata:
        metadata = {k: v for k, v in metadata.items() if k != "resourceVersion"}
    return rawtext.dumps({"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata, **rest})


def with_revision(value: bytes, revision: int) -> bytes:
    """A stored value as clients see it at this revision. Raises ValueError if it holds no object."""
    head = _HEAD.match(value)
    if head is None:
        return _slowly(value, revision)
    at = head.end()
    if value[at : at + 1] == b"}":
        return b'%b"resourceVersion":"%d"%b' % (value[:at], revision, value[at:])
    return b'%b"resourceVersion":"%d",%b' % (value[:at], revision, value[at:])


def at_revision(value: bytes, revision: int) -> bytes:
    """The same object (as clients see it) told of at another revision: a deletion, a selector's transition."""
    head = _HEAD.match(value)
    old = _REVISION.match(value, head.end()) if head else None
    if head is None or old is None:
        return _slowly(value, revision)
    comma = b"," if old.group().endswith(b",") else b""
    return b'%b"resourceVersion":"%d"%b%b' % (value[: head.end()], revision, comma, value[old.end() :])


def _slowly(value: bytes, revision: int) -> bytes:
    """The way for values that were laid out by another writer."""
    obj: Any = orjson.loads(value)
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        raise ValueError("not an object")
    return with_revision(
        encode({"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""), **obj}), revision
    )


def watch_event(kind: str, value: bytes) -> bytes:
    """A line of a JSON watch."""
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), value)
