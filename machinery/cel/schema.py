"""An OpenAPI schema as a declared type of CEL: its fields, how large values can be, how JSON becomes values.

Source: k8s.io/apiserver/pkg/cel/common/{schemas,values}.go, pkg/cel/{types,escaping,limits}.go.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.cel import types
from machinery.cel.declarations import Declared, Field
from machinery.cel.errors import EvaluationError
from machinery.cel.library.times import parse_duration, parse_timestamp
from machinery.cel.types import Type, list_of, map_of
from machinery.cel.values import MapList, SetList, Timestamp

MOST_BYTES: Final = 3 * 1024 * 1024  # Source: DefaultMaxRequestSizeBytes
_KEYWORDS: Final = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_ESCAPES: Final = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_META: Final = {"name": {"type": "string"}, "generateName": {"type": "string"}}
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_SIZES: Final = {"duration": (3, 32), "date": (12, 12), "date-time": (21, 35)}  # smallest, and most characters in JSON


def escaped(name: str) -> str:
    """How CEL spells the name of a property; "" if it can't."""
    if name in _KEYWORDS:
        return f"__{name}__"
    made = re.sub(r"__|[./-]", lambda found: _ESCAPES[found[0]], name)
    return made if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", made) else ""


def declared_of(schema: Mapping[str, Any], name: str, *, resource: bool = False) -> Declared | None:
    """The type of what a schema describes, its objects named after `name`; None if rules can't see it.

    `resource` for what has apiVersion, kind and metadata whether the schema says so or not.
    """
    if schema.get(_INT_OR_STRING):
        most = 4 * max(schema["maxLength"], 0) if schema.get("maxLength") is not None else MOST_BYTES - 2
        return Declared(types.DYN, most, 1)
    sort = schema.get("type")
    if resource:
        return _object(schema, name, resource=True) if sort == "object" else None
    made = _SORTS.get(str(sort))
    return made(schema, name) if made else None


def _array(schema: Mapping[str, Any], name: str) -> Declared | None:
    items = schema.get("items")
    element = _inner(items, f"{name}.@idx") if isinstance(items, Mapping) else None
    if element is None:
        return None
    limit = schema.get("maxItems")
    most = max(limit, 0) if limit is not None else (MOST_BYTES - 2) // (element.min_size + 1)
    return Declared(list_of(element.type), most, 2, element=element, convert=_list_conversion(schema, element))


def _inner(schema: Mapping[str, Any], name: str) -> Declared | None:
    return declared_of(schema, name, resource=bool(schema.get(_EMBEDDED)))


def _object(schema: Mapping[str, Any], name: str, *, resource: bool = False) -> Declared | None:
    rest = schema.get("additionalProperties")
    if isinstance(rest, Mapping):
        return _dictionary(schema, rest, name)
    properties: dict[str, Any] = dict(schema.get("properties") or {})
    if resource:
        text = {"type": "string"}
        properties |= {"kind": text, "apiVersion": text, "metadata": {"type": "object", "properties": _META}}
    required = frozenset(schema.get("required") or ())
    fields: dict[str, Field] = {}
    size = 2
    for key, inner in properties.items():
        declared = _inner(inner, f"{name}.{key}")
        if declared is None:
            continue
        if spelt := escaped(key):
            fields[spelt] = Field(key, declared)
        if key in required and inner.get("default") is None:
            size += len(key.encode()) + declared.min_size + 4
    conversions = {f.key: f.declared.convert for f in fields.values() if f.declared.convert}
    nullable = frozenset(key for key, inner in properties.items() if inner.get("nullable"))
    return Declared(Type("object", name), 0, size, fields=fields, convert=_object_conversion(conversions, nullable))


def _dictionary(schema: Mapping[str, Any], rest: Mapping[str, Any], name: str) -> Declared | None:
    element = _inner(rest, f"{name}.@elem")
    if element is None:
        return None
    limit = schema.get("maxProperties")
    most = max(limit, 0) if limit is not None else (MOST_BYTES - 2) // (element.min_size + 6)
    key = Declared(types.STRING, MOST_BYTES - 2, 2)
    convert = _map_conversion(element.convert)
    return Declared(map_of(types.STRING, element.type), most, 2, element=element, key=key, convert=convert)


def _string(schema: Mapping[str, Any], name: str) -> Declared:
    form, limit = schema.get("format"), schema.get("maxLength")
    if form in _SIZES:
        smallest, most = _SIZES[form]
        kind = types.DURATION if form == "duration" else types.TIMESTAMP
        return Declared(kind, most, smallest, convert=_FORMATS[form])
    if form == "byte":
        return Declared(types.BYTES, max(limit, 0) if limit is not None else MOST_BYTES - 2, 2, convert=_FORMATS[form])
    if limit is not None:
        most = 4 * max(limit, 0)
    elif schema.get("enum"):
        most = max((len(v.encode()) for v in schema["enum"] if isinstance(v, str)), default=0)
    else:
        most = MOST_BYTES - 2
    return Declared(types.STRING, most, 2)


_SORTS: Final[dict[str, Callable[[Mapping[str, Any], str], Declared | None]]] = {
    "array": _array,
    "object": _object,
    "string": _string,
    "boolean": lambda schema, name: Declared(types.BOOL, 0, 4),
    "number": lambda schema, name: Declared(types.DOUBLE, 0, 1, convert=_double),
    "integer": lambda schema, name: Declared(types.INT, 0, 1),
}


# -- conversions -----------------------------------------------------------------------------------------------------


def _double(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise EvaluationError("Failed to decode bytes: illegal base64 data") from None


def _date(value: Any) -> Timestamp:
    return parse_timestamp(f"{value}T00:00:00Z")


_FORMATS: Final[dict[str, Callable[[Any], Any]]] = {
    "duration": parse_duration,
    "date": _date,
    "date-time": parse_timestamp,
    "byte": _bytes,
}


def _list_conversion(schema: Mapping[str, Any], element: Declared) -> Callable[[Any], Any] | None:
    kind, each = schema.get("x-kubernetes-list-type"), element.convert
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if each is None and kind not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = [each(item) if item is not None else None for item in value] if each else value
        if kind == "set":
            return SetList(items)
        return MapList(items, keys) if kind == "map" else items

    return convert


def _map_conversion(each: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if each is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: each(inner) if inner is not None else None for key, inner in value.items()}

    return convert


def _object_conversion(
    conversions: Mapping[str, Callable[[Any], Any]], nullable: frozenset[str]
) -> Callable[[Any], Any] | None:
    """Of the members of an object; a field that is null is none that there is."""
    if not conversions and not nullable:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = {key: inner for key, inner in value.items() if inner is not None or key not in nullable}
        for key, each in conversions.items():
            if made.get(key) is not None:
                made[key] = each(made[key])
        return made

    return convert
