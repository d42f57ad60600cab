"""What is wrong with the openAPIV3Schema of a CustomResourceDefinition.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation, pkg/apiserver/schema/validation.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import regex, validation

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = (
    "definitions", "dependencies", "patternProperties", "additionalItems", "$ref", "id",
)  # fmt: skip
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_MAP_TYPE: Final = "x-kubernetes-map-type"
_MAP_KEYS: Final = "x-kubernetes-list-map-keys"
_RULES: Final = "x-kubernetes-validations"
_STRUCTURE: Final = (
    "type", "default", "title", "description", "nullable", _PRESERVE, _EMBEDDED, _INT_OR_STRING, _LIST_TYPE, _MAP_TYPE,
    _MAP_KEYS, _RULES, "additionalProperties",
)  # fmt: skip
_COMPOSED: Final = ("allOf", "anyOf", "oneOf")
_INT_OR_STRING_TYPES: Final = [{"type": "integer"}, {"type": "string"}]


def errors(definition: Mapping[str, Any], path: str) -> list[FieldError]:
    """Errors of a schema that stands at `path` (spec.versions[0].schema.openAPIV3Schema)."""
    found: list[FieldError] = []
    sort = definition.get("type") or ""
    if sort and sort != "object":
        found.append(fielderror.invalid(f"{path}.type", sort, "must be object at the root"))
    elif not sort:
        found.append(fielderror.required(f"{path}.type", "must not be empty at the root"))
    if definition.get("nullable"):
        found.append(fielderror.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    return found + list(_node(definition, path, root=True))


def _node(s: Mapping[str, Any], path: str, *, root: bool = False) -> Iterator[FieldError]:
    yield from _vocabulary(s, path)
    if not root:
        yield from _sort(s, path)
    yield from _extensions(s, path, root=root)
    yield from _lists(s, path)
    yield from _default(s, path)
    for name, inner in sorted((s.get("properties") or {}).items()):
        where = f"{path}.properties[{name}]"
        if not (inner.get("type") or inner.get(_INT_OR_STRING) or inner.get(_PRESERVE)) and not (
            root and name == "metadata"
        ):
            yield fielderror.required(f"{where}.type", "must not be empty for specified object fields")
        if root and name == "metadata":
            yield from _metadata(inner, where)
        yield from _node(inner, where)
    items = s.get("items")
    if isinstance(items, Mapping):
        if not (items.get("type") or items.get(_INT_OR_STRING) or items.get(_PRESERVE)):
            yield fielderror.required(f"{path}.items.type", "must not be empty for specified array items")
        yield from _node(items, f"{path}.items")
    elif isinstance(items, list):
        yield fielderror.forbidden(f"{path}.items", "items must be a schema object and not an array")
    rest = s.get("additionalProperties")
    if isinstance(rest, Mapping):
        if not (rest.get("type") or rest.get(_INT_OR_STRING) or rest.get(_PRESERVE)):
            yield fielderror.required(
                f"{path}.additionalProperties.type", "must not be empty for specified object fields"
            )
        yield from _node(rest, f"{path}.additionalProperties")
    for word in _COMPOSED:
        for i, part in enumerate(s.get(word) or ()):
            if not (word == "anyOf" and _states_int_or_string(s)):
                yield from _value_part(part, f"{path}.{word}[{i}]", s)
    if s.get("not") is not None:
        yield from _value_part(s["not"], f"{path}.not", s)


def _states_int_or_string(s: Mapping[str, Any]) -> bool:
    return bool(s.get(_INT_OR_STRING)) and s.get("anyOf") == _INT_OR_STRING_TYPES


def _vocabulary(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    for word in _UNSUPPORTED:
        if s.get(word):
            yield fielderror.forbidden(f"{path}.{word}", f"{word} is not supported")
    if s.get("uniqueItems"):
        yield fielderror.forbidden(
            f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )
    if s.get("additionalProperties") is False:
        yield fielderror.forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    if s.get("properties") and s.get("additionalProperties"):
        yield fielderror.forbidden(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if pattern := s.get("pattern"):
        try:
            regex.compile_go(pattern)
        except regex.PatternError as exc:
            yield fielderror.invalid(
                f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {exc}"
            )


def _sort(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    sort = s.get("type") or ""
    if sort and sort not in _TYPES:
        yield fielderror.not_supported(f"{path}.type", sort, _TYPES)
    if sort == "array" and s.get("items") is None:
        yield fielderror.required(f"{path}.items", "must be specified")


def _extensions(s: Mapping[str, Any], path: str, *, root: bool) -> Iterator[FieldError]:
    sort = s.get("type") or ""
    if s.get(_INT_OR_STRING):
        if sort:
            yield fielderror.forbidden(f"{path}.type", f"must be empty if {_INT_OR_STRING} is true")
        for other in (_PRESERVE, _EMBEDDED):
            if s.get(other):
                yield fielderror.forbidden(f"{path}.{other}", f"must be false if {_INT_OR_STRING} is true")
    if s.get(_PRESERVE) is False:
        yield fielderror.invalid(f"{path}.{_PRESERVE}", False, "must be true or undefined")
    if s.get(_EMBEDDED):
        if sort != "object":
            yield fielderror.invalid(f"{path}.type", sort, f"must be object if {_EMBEDDED} is true")
        if root:
            yield fielderror.forbidden(f"{path}.{_EMBEDDED}", "must not be used at the root")
        if not s.get(_PRESERVE) and not s.get("properties"):
            yield fielderror.required(
                f"{path}.properties", f"must not be empty if {_EMBEDDED} is true without {_PRESERVE}"
            )
    kind = s.get(_MAP_TYPE)
    if kind is not None:
        if kind not in ("atomic", "granular"):
            yield fielderror.not_supported(f"{path}.{_MAP_TYPE}", kind, ("atomic", "granular"))
        if sort != "object":
            yield fielderror.invalid(f"{path}.type", sort, f"must be object if {_MAP_TYPE} is specified")


def _lists(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    kind, keys = s.get(_LIST_TYPE), s.get(_MAP_KEYS) or []
    if kind is None:
        if keys:
            yield fielderror.required(f"{path}.{_LIST_TYPE}", f"must be map if {_MAP_KEYS} is non-empty")
        return
    if kind not in ("atomic", "set", "map"):
        yield fielderror.not_supported(f"{path}.{_LIST_TYPE}", kind, ("atomic", "set", "map"))
    if s.get("type") != "array":
        yield fielderror.invalid(f"{path}.type", s.get("type") or "", f"must be array if {_LIST_TYPE} is specified")
    items = s.get("items")
    if kind != "map":
        if keys:
            yield fielderror.forbidden(f"{path}.{_MAP_KEYS}", f"must be empty if {_LIST_TYPE} is not map")
        return
    if not keys:
        yield fielderror.required(f"{path}.{_MAP_KEYS}", f"must not be empty if {_LIST_TYPE} is map")
    if not isinstance(items, Mapping):
        return
    if items.get("type") != "object":
        yield fielderror.invalid(
            f"{path}.items.type", items.get("type") or "", f"must be object if parent array's {_LIST_TYPE} is map"
        )
    properties = items.get("properties") or {}
    seen: set[str] = set()
    for i, key in enumerate(keys):
        where = f"{path}.{_MAP_KEYS}[{i}]"
        if key not in properties:
            yield fielderror.invalid(where, key, "entries must all be names of item properties")
        elif properties[key].get("type") in ("array", "object"):
            yield fielderror.invalid(
                f"{path}.items.properties[{key}].type", properties[key]["type"], "must be a scalar type if parent "
                f"array's {_LIST_TYPE} is map"
            )  # fmt: skip
        elif key not in (items.get("required") or ()) and properties[key].get("default") is None:
            yield fielderror.required(
                f"{path}.items.properties[{key}].default",
                f"this property is in {_MAP_KEYS}, so it must have a default or be a required property",
            )
        if key in seen:
            yield fielderror.duplicate(where, key)
        seen.add(key)


def _default(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    default = s.get("default")
    if default is None:
        return
    for error in validation.validate(s, default):
        field = f"{path}.default" + (f".{error.field}" if error.field else "")
        yield FieldError(error.reason, field, error.body)


def _metadata(s: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    """Of metadata a schema may say only what names look like."""
    for word in s:
        if word not in ("type", "description", "properties"):
            yield fielderror.forbidden(f"{path}.{word}", "must not be set")
    for name in s.get("properties") or {}:
        if name not in ("name", "generateName"):
            yield fielderror.forbidden(
                f"{path}.properties[{name}]", "must not specify anything other than name and generateName"
            )


def _value_part(part: Mapping[str, Any], path: str, parent: Mapping[str, Any]) -> Iterator[FieldError]:
    """A schema inside allOf, anyOf, oneOf or not: it may restrict values, not add structure."""
    for word in _STRUCTURE:
        if part.get(word) not in (None, "", False):
            yield fielderror.forbidden(f"{path}.{word}", "must be empty to be structural")
    known = parent.get("properties") or {}
    for name, inner in sorted((part.get("properties") or {}).items()):
        if name not in known and not isinstance(parent.get("additionalProperties"), Mapping):
            yield fielderror.required(_above(path) + f".properties[{name}]", f"because it is defined in {path}")
        yield from _value_part(inner, f"{path}.properties[{name}]", known.get(name) or {})
    items = part.get("items")
    if isinstance(items, Mapping):
        yield from _value_part(items, f"{path}.items", parent.get("items") or {})
    for word in _COMPOSED:
        for i, deeper in enumerate(part.get(word) or ()):
            yield from _value_part(deeper, f"{path}.{word}[{i}]", parent)


def _above(path: str) -> str:
    return path.rpartition(".")[0]
