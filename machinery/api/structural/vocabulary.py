"""What a schema of a CustomResourceDefinition may say at all, word for word.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go
(ValidateCustomResourceDefinitionOpenAPISchema, specStandardValidatorV3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import fieldpath
from machinery.api.structural.words import (
    COMPOSED,
    EMBEDDED,
    LIST_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    PRESERVE,
    RULES,
)

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_EVEN_EMPTY: Final = ("additionalItems", "dependencies", "$ref")
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_META: Final = frozenset(("metadata", "kind", "apiVersion"))


@dataclass(frozen=True)
class _Place:
    """Where in the schema of a resource one stands."""

    root: bool = False
    inside_meta: bool = False
    no_defaults: str = ""
    """Why defaults can't stand here; "" if they can."""


def errors(schema: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with the words of a whole schema."""
    return list(_node(schema, path, _Place(root=True)))


def _node(s: Mapping[str, Any], path: str, place: _Place) -> Iterator[FieldError]:
    yield from _standard(s, path, place)
    if s.get("uniqueItems"):
        told = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield fielderror.forbidden(f"{path}.uniqueItems", told)
    yield from _below(s, path, place)
    if s.get(PRESERVE) is False:
        yield fielderror.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    yield from _lists(s, path)
    yield from _keys(s, path)
    for i, rule in enumerate(s.get(RULES) or ()):
        yield from _rule(s, rule, f"{path}.{RULES}[{i}]")


def _standard(s: Mapping[str, Any], path: str, place: _Place) -> Iterator[FieldError]:
    sort = s.get("type") or ""
    if sort and sort not in _TYPES:
        yield fielderror.not_supported(f"{path}.type", sort, _TYPES)
    if s.get("default") is not None and place.no_defaults:
        yield fielderror.forbidden(f"{path}.default", f"must not be set {place.no_defaults}")
    for word in _UNSUPPORTED:
        if s.get(word) or (word in _EVEN_EMPTY and s.get(word) is not None):
            yield fielderror.forbidden(f"{path}.{word}", f"{word} is not supported")
    if sort == "null":
        yield fielderror.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(s.get("items"), list):
        yield fielderror.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.inside_meta and s.get(EMBEDDED):
        yield fielderror.forbidden(f"{path}.{EMBEDDED}", "must not be used inside of resource meta")


def _below(s: Mapping[str, Any], path: str, place: _Place) -> Iterator[FieldError]:
    inner = replace(place, root=False)
    properties: Mapping[str, Any] = s.get("properties") or {}
    rest = s.get("additionalProperties")
    if rest is not None:
        if properties and (rest is False or isinstance(rest, Mapping)):
            told = "additionalProperties and properties are mutual exclusive"
            yield fielderror.forbidden(f"{path}.additionalProperties", told)
        if isinstance(rest, Mapping):
            why = "inside additionalProperties applying to object metadata"
            deeper = replace(inner, no_defaults=why) if place.inside_meta else inner
            yield from _node(rest, f"{path}.additionalProperties", deeper)
    for name, schema in sorted(properties.items()):
        deeper = inner
        if (place.root or s.get(EMBEDDED)) and name in _META:
            deeper = replace(
                inner, inside_meta=True, no_defaults=f"in top-level {name}" if place.root else inner.no_defaults
            )
        yield from _node(schema, f"{path}.properties[{name}]", deeper)
    if s.get("not") is not None:
        yield from _node(s["not"], f"{path}.not", inner)
    for word in COMPOSED:
        for i, part in enumerate(s.get(word) or ()):
            yield from _node(part, f"{path}.{word}[{i}]", inner)
    if isinstance(s.get("items"), Mapping):
        yield from _node(s["items"], f"{path}.items", inner)


def _wrong_type(s: Mapping[str, Any], path: str, wanted: str, word: str) -> FieldError:
    told = f"must be {wanted} if {word} is specified"
    sort = s.get("type") or ""
    return fielderror.invalid(f"{path}.type", sort, told) if sort else fielderror.required(f"{path}.type", told)


def _lists(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    map_type, list_type = s.get(MAP_TYPE), s.get(LIST_TYPE)
    if map_type is not None and s.get("type") != "object":
        yield _wrong_type(s, path, "object", MAP_TYPE)
    if map_type not in (None, "atomic", "granular"):
        yield fielderror.not_supported(f"{path}.{MAP_TYPE}", map_type, ("atomic", "granular"))
    items = s.get("items") if isinstance(s.get("items"), Mapping) else None
    if list_type is not None and s.get("type") != "array":
        yield _wrong_type(s, path, "array", LIST_TYPE)
    elif list_type == "set" and items is not None:
        told = f"must be atomic as item of a list with {LIST_TYPE}=set"
        if items.get("type") == "array" and items.get(LIST_TYPE) not in (None, "atomic"):
            yield fielderror.invalid(f"{path}.items.{LIST_TYPE}", items.get(LIST_TYPE), told)
        elif items.get("type") == "object" and items.get(MAP_TYPE) != "atomic":
            yield fielderror.invalid(f"{path}.items.{MAP_TYPE}", items.get(LIST_TYPE), told)
    if list_type not in (None, "atomic", "set", "map"):
        yield fielderror.not_supported(f"{path}.{LIST_TYPE}", list_type, ("atomic", "set", "map"))
    if s.get(LIST_KEYS) and list_type != "map":
        told = f"must be map if {LIST_KEYS} is non-empty"
        where = f"{path}.{LIST_TYPE}"
        yield fielderror.required(where, told) if list_type is None else fielderror.invalid(where, list_type, told)
    if list_type in ("set", "map") and items is not None and items.get("nullable"):
        yield fielderror.forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is {list_type}")


def _keys(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    """The keys of a list that is a map."""
    if s.get(LIST_TYPE) != "map":
        return
    keys: list[str] = s.get(LIST_KEYS) or []
    if not keys:
        yield fielderror.required(f"{path}.{LIST_KEYS}", f"must not be empty if {LIST_TYPE} is map")
    items = s.get("items")
    if items is None:
        yield fielderror.required(f"{path}.items", f"must have a schema if {LIST_TYPE} is map")
    if not isinstance(items, Mapping):
        return
    parent = f"if parent array's {LIST_TYPE} is map"
    if items.get("type") != "object":
        yield fielderror.invalid(f"{path}.items.type", items.get("type") or "", f"must be object {parent}")
        return
    properties = items.get("properties") or {}
    for i, key in enumerate(keys):
        if key not in properties:
            yield fielderror.invalid(f"{path}.{LIST_KEYS}", keys, "entries must all be names of item properties")
        elif properties[key].get("type") in ("array", "object"):
            where = f"{path}.items.properties[{key}].type"
            yield fielderror.invalid(where, items["type"], f"must be a scalar type {parent}")
        if key in keys[:i]:
            yield fielderror.invalid(f"{path}.{LIST_KEYS}", keys, "must not contain duplicate entries")
    for key in keys:
        if key not in properties:
            continue
        where = f"{path}.items.properties[{key}]"
        told = f"this property is in {LIST_KEYS}, so it"
        if key not in (items.get("required") or ()) and properties[key].get("default") is None:
            yield fielderror.required(f"{where}.default", f"{told} must have a default or be a required property")
        if properties[key].get("nullable"):
            yield fielderror.forbidden(f"{where}.nullable", f"{told} cannot be nullable")


def _rule(s: Mapping[str, Any], rule: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    """One of x-kubernetes-validations, apart from whether its expressions compile."""
    text, message = rule.get("rule") or "", rule.get("message") or ""
    if not text.strip():
        yield fielderror.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield fielderror.invalid(f"{path}.message", message, "must be non-empty if specified")
    elif _breaks(message.strip()):
        yield fielderror.invalid(f"{path}.message", message, "must not contain line breaks")
    elif _breaks(text.strip()) and not message.strip():
        yield fielderror.required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        told = "messageExpression must be non-empty if specified"
        yield fielderror.required(f"{path}.messageExpression", told)
    if rule.get("reason") is not None and rule["reason"] not in _REASONS:
        yield fielderror.not_supported(f"{path}.reason", rule["reason"], _REASONS)
    where = rule.get("fieldPath") or ""
    if where and not where.strip():
        yield fielderror.invalid(f"{path}.fieldPath", where, "must be non-empty if specified")
    if _breaks(where):
        yield fielderror.invalid(f"{path}.fieldPath", where, "must not contain line breaks")
    if where:
        try:
            fieldpath.resolve(where, s)
        except ValueError:
            yield fielderror.invalid(f"{path}.fieldPath", where, "must be a valid path")


def _breaks(text: str) -> bool:
    return re.search(r"[\n\r]", text) is not None
