"""Whether a schema is structural.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/{convert,validation,complete}.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import regex
from machinery.api.structural.words import (
    COMPOSED,
    EMBEDDED,
    INT_OR_STRING,
    LIST_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    PRESERVE,
    RULES,
)

_INT_OR_STRING_TYPES: Final = [{"type": "integer"}, {"type": "string"}]
_EMPTY_TYPE: Final = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_STRUCTURE: Final = {
    "type": "empty", "additionalProperties": "undefined", "default": "undefined", "title": "empty",
    "description": "empty", "nullable": "false", "externalDocs": "undefined", PRESERVE: "false",
    EMBEDDED: "false", INT_OR_STRING: "false", LIST_KEYS: "empty", LIST_TYPE: "undefined", MAP_TYPE: "undefined",
    RULES: "empty",
}  # fmt: skip


def errors(schema: Mapping[str, Any], path: str) -> list[FieldError]:
    """What keeps a schema from being structural, sorted."""
    found = [*_invariants(schema, "root", path), *_complete(schema, schema, path, path)]
    return sorted(dict.fromkeys(found), key=str)


def _invariants(s: Mapping[str, Any], level: str, path: str) -> Iterator[FieldError]:
    sort = s.get("type") or ""
    properties: Mapping[str, Any] = s.get("properties") or {}
    items, rest = s.get("items"), s.get("additionalProperties")
    if sort == "array" and items is None:
        yield fielderror.required(f"{path}.items", "must be specified")
    if isinstance(items, Mapping):
        yield from _invariants(items, "item", f"{path}.items")
    for name, inner in properties.items():
        yield from _invariants(inner, "field", f"{path}.properties[{name}]")
    if rest is not None and level == "root":
        yield fielderror.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(rest, Mapping):
        yield from _invariants(rest, "field", f"{path}.additionalProperties")
    if s.get(INT_OR_STRING):
        for word in (PRESERVE, EMBEDDED):
            if s.get(word):
                yield fielderror.invalid(f"{path}.{word}", True, f"must be false if {INT_OR_STRING} is true")
    yield from _values(s, level, path)
    yield from _type(s, sort, level, path)
    yield from _resource(s, level, path)


def _type(s: Mapping[str, Any], sort: str, level: str, path: str) -> Iterator[FieldError]:
    if s.get(EMBEDDED) and sort != "object":
        told = f"must be object if {EMBEDDED} is true"
        yield fielderror.invalid(f"{path}.type", sort, told) if sort else fielderror.required(f"{path}.type", told)
    elif not sort and not s.get(INT_OR_STRING) and not s.get(PRESERVE):
        yield fielderror.required(f"{path}.type", _EMPTY_TYPE[level])
    if s.get(EMBEDDED) and s.get("additionalProperties") is not None:
        yield fielderror.forbidden(f"{path}.additionalProperties", f"must not be used if {EMBEDDED} is set")
    if level == "root" and sort and sort != "object":
        yield fielderror.invalid(f"{path}.type", sort, "must be object at the root")


def _resource(s: Mapping[str, Any], level: str, path: str) -> Iterator[FieldError]:
    """What a schema may say of apiVersion, kind and metadata."""
    properties: Mapping[str, Any] = s.get("properties") or {}
    if level == "root" or s.get(EMBEDDED):
        for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
            found = (properties.get(name) or {}).get("type") or ""
            if name in properties and found != wanted:
                yield fielderror.invalid(f"{path}.properties[{name}].type", found, f"must be {wanted}")
    metadata = properties.get("metadata")
    if level == "root" and metadata is not None:
        told = set(metadata.get("properties") or {}) <= {"name", "generateName"}
        if not told or any(metadata[word] for word in metadata if word not in ("type", "properties", "default")):
            yield fielderror.forbidden(
                f"{path}.properties[metadata]",
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            )
    if s.get(EMBEDDED) and not s.get(PRESERVE) and not properties:
        told_ = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        yield fielderror.required(f"{path}.properties", told_)


def _values(s: Mapping[str, Any], level: str, path: str, *, skip: str = "") -> Iterator[FieldError]:
    any_of, all_of = s.get("anyOf") or [], s.get("allOf") or []
    if any_of != _INT_OR_STRING_TYPES and skip != "anyOf":
        for i, part in enumerate(any_of):
            yield from _nested(part, level, f"{path}.anyOf[{i}]")
    for i, part in enumerate(all_of):
        stated = i == 0 and part.get("anyOf") == _INT_OR_STRING_TYPES
        yield from _nested(part, level, f"{path}.allOf[{i}]", skip="anyOf" if stated else "")
    for i, part in enumerate(s.get("oneOf") or ()):
        yield from _nested(part, level, f"{path}.oneOf[{i}]")
    if s.get("not") is not None:
        yield from _nested(s["not"], level, f"{path}.not")
    if pattern := s.get("pattern"):
        try:
            regex.compile_go(pattern)
        except regex.PatternError as exc:
            told = f"must be a valid regular expression, but isn't: {exc}"
            yield fielderror.invalid(f"{path}.pattern", pattern, told)


def _nested(part: Mapping[str, Any], level: str, path: str, *, skip: str = "") -> Iterator[FieldError]:
    """A schema inside allOf, anyOf, oneOf or not: it may restrict values, not add structure."""
    yield from _values(part, level, path, skip=skip)
    if isinstance(part.get("items"), Mapping):
        yield from _nested(part["items"], level, f"{path}.items")
    for name, inner in (part.get("properties") or {}).items():
        yield from _nested(inner, "field", f"{path}.properties[{name}]")
    for word, wanted in _STRUCTURE.items():
        if part.get(word) not in (None, "", False, []):
            yield fielderror.forbidden(f"{path}.{word}", f"must be {wanted} to be structural")
    if "metadata" in (part.get("properties") or {}):
        yield fielderror.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(s: Mapping[str, Any], values: Mapping[str, Any], path: str, where: str) -> Iterator[FieldError]:
    """Whatever is restricted in a part of values must stand in the structure too."""
    for word in COMPOSED:
        for i, part in enumerate(values.get(word) or ()):
            yield from _covered(s, part, path, f"{where}.{word}[{i}]")
    if values.get("not") is not None:
        yield from _covered(s, values["not"], path, f"{where}.not")
    if s is values:
        for name, inner in (s.get("properties") or {}).items():
            below = f"{path}.properties[{name}]"
            yield from _complete(inner, inner, below, below)
        for word in ("items", "additionalProperties"):
            inner = s.get(word)
            if isinstance(inner, Mapping):
                yield from _complete(inner, inner, f"{path}.{word}", f"{path}.{word}")


def _covered(s: Mapping[str, Any], part: Mapping[str, Any], path: str, where: str) -> Iterator[FieldError]:
    yield from _complete(s, part, path, where) if part is not s else ()
    items = part.get("items")
    if isinstance(items, Mapping):
        if not isinstance(s.get("items"), Mapping):
            yield fielderror.required(f"{path}.items", f"because it is defined in {where}.items")
        else:
            yield from _covered(s["items"], items, f"{path}.items", f"{where}.items")
    known, rest = s.get("properties") or {}, s.get("additionalProperties")
    for name, inner in (part.get("properties") or {}).items():
        below = f"{where}.properties[{name}]"
        if name in known:
            yield from _covered(known[name], inner, f"{path}.properties[{name}]", below)
        elif isinstance(rest, Mapping):
            yield from _covered(rest, inner, f"{path}.additionalProperties", below)
        else:
            yield fielderror.required(f"{path}.properties[{name}]", f"because it is defined in {below}")
