"""Paths to fields as rules and selectable fields write them: `.spec.a`, `.spec['a.b']`.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go (ValidFieldPath).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_TOKEN: Final = re.compile(r"'(?:.*?[^\\])?'|'.*|[.\[\]]|[^.\[\]]+", re.DOTALL)
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\",
}  # fmt: skip
_NO_FIELD: Final = "does not refer to a valid field"
_ENDED: Final = "unexpected end of JSON path"


@dataclass(frozen=True)
class Found:
    """Where a path leads."""

    schema: Mapping[str, Any]
    names: tuple[str, ...]
    path: str
    """As errors tell it: `spec.a`, `spec.labels[b]`."""


def resolve(text: str, schema: Mapping[str, Any], *, brackets: bool = True) -> Found:
    """Where a path leads in a schema. Raises ValueError saying what is wrong."""
    names: list[str] = []
    path = ""
    tokens = (found[0] for found in _TOKEN.finditer(text))
    for token in tokens:
        if token == "[":
            if not brackets:
                raise ValueError("array notation is not allowed")
            name = _quoted(tokens)
        elif token == ".":
            name = _next(tokens)
        else:
            raise ValueError(f"expected [ or . but got: {token}")
        named = bool(schema.get("properties"))
        schema = _member(schema, name)
        if token == "[" and (closing := _next(tokens)) != "]":
            raise ValueError(f"expected ] but got {closing}")
        names.append(name)
        path += f"[{name}]" if not named else f".{name}" if path else name
    return Found(schema, tuple(names), path)


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise ValueError(_ENDED)
    return token


def _quoted(tokens: Iterator[str]) -> str:
    token = _next(tokens)
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise ValueError(f"expected single quoted string but got {token}")
    return re.sub(r"\\.", _unescaped, token[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    if found[0][1] not in _ESCAPES:
        raise ValueError(f"invalid string literal: invalid escape char {found[0]}")
    return _ESCAPES[found[0][1]]


def _member(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    properties, rest = schema.get("properties"), schema.get("additionalProperties")
    inner = properties.get(name) if properties else rest
    if not isinstance(inner, Mapping):
        raise ValueError(_NO_FIELD)
    return inner
