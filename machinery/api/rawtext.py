"""Parts of objects that are text to the server: what only drivers and controllers understand (Go's RawExtension).

Upstream keeps such a part as it was sent, and takes another text for another value: whoever patches an object that was
sent with white space in it changes it, because a patch prints it anew.  Of the text we keep what matters to that: a
part that was not sent in its shortest form is a `Spaced`, equal only to another such part, and stored with a blank.

Source: k8s.io/apimachinery/pkg/runtime (RawExtension); Go's encoding/json (Compact).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

import orjson

from machinery.api.meta import Object
from machinery.api.schema_types import Type

_GO_TYPE: Final = "runtime.RawExtension"
_ITEMS: Final = "[]"
_SPACE: Final = " \t\r\n"
_decode = json.JSONDecoder().raw_decode

Paths = dict[str, "Paths"]
"""Ways to opaque parts: member (or `[]`, any item of a list) → further; what leads to one has nothing further."""


class Spaced(dict[str, Any]):
    """An opaque part that was sent with white space in it."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spaced) and dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


@lru_cache(maxsize=512)
def paths(kind: Type) -> Paths:
    """Where objects of a kind have opaque parts; empty for nearly all kinds."""
    return _paths(kind, frozenset())


def _paths(kind: Type, above: frozenset[int]) -> Paths:
    if id(kind) in above or kind.name.endswith((".ObjectMeta", ".PodSpec")):
        return {}
    above |= {id(kind)}
    if kind.sort == "list" and kind.element is not None:
        children = {_ITEMS: kind.element}
    elif kind.sort == "object":
        children = kind.fields
    else:
        return {}
    found: Paths = {}
    for name, inner in children.items():
        further = _paths(inner, above)
        if further or inner.go == _GO_TYPE:
            found[name] = further
    return found


def marked(kind: Type, obj: Object, text: bytes) -> Object:
    """The object, read from this JSON, with its opaque parts marked as they were sent."""
    ways = paths(kind)
    if not ways:
        return obj
    found, _ = _walk(text.decode("utf-8", "replace"), 0, ways, obj)
    return found if isinstance(found, dict) else obj


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _walk(text: str, at: int, ways: Paths, value: Any) -> tuple[Any, int]:
    """(the value with its parts marked, where its text ends)."""
    at = _blank(text, at)
    if not ways:
        _, end = _decode(text, at)
        short = isinstance(value, dict) and len(text[at:end].encode()) == len(dumps(value))
        return (value if short or not isinstance(value, dict) else Spaced(value)), end
    if text[at] == "{" and isinstance(value, dict):
        return _members(text, at, ways, value)
    if text[at] == "[" and isinstance(value, list) and _ITEMS in ways:
        return _items(text, at, ways[_ITEMS], value)
    return value, _decode(text, at)[1]


def _members(text: str, at: int, ways: Paths, value: Object) -> tuple[Object, int]:
    made = dict(value)
    at = _blank(text, at + 1)
    while text[at] != "}":
        name, at = _decode(text, at)
        at = _blank(text, _blank(text, at) + 1)
        if name in ways and name in made:
            made[name], at = _walk(text, at, ways[name], made[name])
        else:
            _, at = _decode(text, at)
        at = _blank(text, at)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return made, at + 1


def _items(text: str, at: int, ways: Paths, value: list[Any]) -> tuple[list[Any], int]:
    made = list(value)
    at = _blank(text, at + 1)
    index = 0
    while text[at] != "]":
        inner = made[index] if index < len(made) else None
        marked_inner, at = _walk(text, at, ways, inner)
        if index < len(made):
            made[index] = marked_inner
        index += 1
        at = _blank(text, at)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return made, at + 1


def dumps(value: Any) -> bytes:
    """JSON, in which parts that are `Spaced` have a blank."""
    try:
        return orjson.dumps(value, default=_special, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:
        return orjson.dumps(_with_floats(value), default=_special, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def _special(value: Any) -> Any:
    if isinstance(value, Spaced):
        return orjson.Fragment(b"{ " + orjson.dumps(dict(value))[1:])
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return list(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def _with_floats(value: Any) -> Any:
    """Integers over 64 bits as Go reads them where no type says otherwise: as floats."""
    if value.__class__ is int:
        return value if -(2**63) <= value < 2**64 else float(value)
    if isinstance(value, dict):
        return value.__class__({key: _with_floats(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return value.__class__([_with_floats(inner) for inner in value])
    return value
