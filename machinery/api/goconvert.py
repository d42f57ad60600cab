"""What Go says where a JSON value can't become a struct without a text between: after a strategic merge patch.

Source: k8s.io/apimachinery/pkg/runtime/converter.go (fromUnstructured).
"""

from __future__ import annotations

from typing import Any, Final

from machinery.api import goorder
from machinery.api.protobuf import table
from machinery.api.schema import load
from machinery.api.schema_decode import Mismatch, canonical_base64
from machinery.api.schema_strict import mismatch as mismatch_of_text
from machinery.api.schema_types import Type

_KINDS: Final[dict[type, str]] = {
    str: "string", int: "int64", float: "float64", bool: "bool", dict: "map", list: "slice"
}  # fmt: skip
_SCALARS: Final = {"string": "string", "boolean": "bool", "number": "float64"}
# Go converts between these types, so the refusal is the converter's own
_CONVERTIBLE: Final = frozenset({("int64", "string"), ("float64", "int32"), ("float64", "int64")})


def mismatch(kind: Type, value: Any) -> str:
    """The first complaint about a value that does not have its type; "" if there is none."""
    if value is None:
        return ""
    given = _KINDS[value.__class__]
    match kind.sort:
        case "object":
            return _members(kind, value) if given == "map" else f"cannot restore struct from: {given}"
        case "map":
            inner = kind.element
            if given != "map":
                return f"cannot restore map from {given}"
            return next((w for v in value.values() if inner is not None and (w := mismatch(inner, v))), "")
        case "list":
            inner = kind.element
            if given != "slice":
                return f"cannot restore slice from {given}"
            return next((w for v in value if inner is not None and (w := mismatch(inner, v))), "")
        case "bytes":
            return _bytes(value, given)
        case "string" | "boolean" | "integer" | "number":
            return _scalar(kind.format if kind.sort == "integer" else _SCALARS[kind.sort], value, given)
    decoder = load().compiler.decoder(kind)
    try:
        decoder(value, [])
    except Mismatch:
        return mismatch_of_text(load().compiler, kind, value)
    return ""


def _members(kind: Type, value: dict[str, Any]) -> str:
    order = goorder.fields(table.message_of(kind.name)) if kind.name else ()
    names = [*order, *(n for n in kind.fields if n not in order)]
    return next((w for n in names if n in value and n in kind.fields and (w := mismatch(kind.fields[n], value[n]))), "")


def _bytes(value: Any, given: str) -> str:
    if given != "string":
        return f"cannot restore slice from {given}"
    try:
        canonical_base64(value)
    except Mismatch as exc:
        return f"error decoding from json: {exc.message}"
    return ""


def _scalar(wanted: str, value: Any, given: str) -> str:
    if given == wanted or (given == "int64" and wanted in ("int32", "float64")):
        return ""
    if (given, wanted) in _CONVERTIBLE:
        return "" if given == "float64" and value == int(value) else f"cannot convert {given} to {wanted}"
    return f"unrecognized type: {wanted}"
