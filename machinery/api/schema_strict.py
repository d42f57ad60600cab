"""The slow path of decoding: saying what was wrong with an object, and where, in Go's words.

Source: sigs.k8s.io/json (decode.go), k8s.io/apimachinery/pkg/runtime/serializer/json.
"""

from __future__ import annotations

import json
from typing import Any, Final

from machinery.api.jsontext import Pairs
from machinery.api.schema_decode import Compiler, Mismatch, go_value
from machinery.api.schema_types import Type

_MAX_ERRORS: Final = 100


def mismatch(compiler: Compiler, kind: Type, value: Any) -> str:
    """What Go says of the first value in `value` that has the wrong type."""
    found = _mismatch(compiler, kind, value, "", ())
    assert found is not None, "the decoder refused what the strict walk accepts"
    return found


def _mismatch(compiler: Compiler, kind: Type, value: Any, struct: str, path: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    match kind.sort:
        case "object" if isinstance(value, dict):
            name = kind.go.rpartition(".")[2]
            for key, item in value.items():
                inner = kind.fields.get(key)
                if inner is None:
                    inner = kind.element
                if inner is not None and (wrong := _mismatch(compiler, inner, item, name, (*path, key))):
                    return wrong
            return None
        case "map" if isinstance(value, dict) and kind.element is not None:
            return next((w for v in value.values() if (w := _mismatch(compiler, kind.element, v, struct, path))), None)
        case "list" if isinstance(value, list) and kind.element is not None:
            return next((w for v in value if (w := _mismatch(compiler, kind.element, v, struct, path))), None)
        case "any" if kind.element is not None and isinstance(value, (dict, list)):
            values = value if isinstance(value, list) else [value]
            wrong_part = next((w for v in values if (w := _mismatch(compiler, kind.element, v, struct, path))), None)
            if wrong_part is not None:
                return wrong_part
        case "object" | "map" | "list":
            return _unmarshal(value, kind, struct, path)
    try:
        compiler.decoder(kind)(value, [])
    except Mismatch as exc:
        return exc.message or _unmarshal(value, kind, struct, path)
    return None


def _unmarshal(value: Any, kind: Type, struct: str, path: tuple[str, ...]) -> str:
    what = go_value(value)
    if what.startswith("number") and kind.sort not in ("integer", "number"):
        what = "number"
    where = f"Go struct field {struct}.{'.'.join(path)}" if path else "Go value"
    return f"json: cannot unmarshal {what} into {where} of type {kind.go}"


def unknown_fields(kind: Type, value: Any) -> list[str]:
    """`unknown field "spec.foo"` for every field that the type does not have, in the order of the object."""
    return list(dict.fromkeys(_Strict().walk(kind, value, "")))[:_MAX_ERRORS]


def strict_errors(kind: Type, value: Any) -> list[str]:
    """Unknown and duplicate fields of a value read by `jsontext.pairs`, in the order of the text."""
    return unknown_fields(kind, value)


class _Strict:
    def walk(self, kind: Type, value: Any, path: str) -> list[str]:
        if isinstance(value, Pairs):
            return self.members(kind, value, path)
        if isinstance(value, dict):
            return self.members(kind, list(value.items()), path)
        if isinstance(value, list):
            element = kind.element if kind.sort in ("list", "any") else None
            if element is None and not kind.preserve:
                return []
            inner = element or kind
            return [e for i, v in enumerate(value) for e in self.walk(inner, v, f"{path}[{i}]")]
        return []

    def members(self, kind: Type, items: list[tuple[str, Any]], path: str) -> list[str]:
        if kind.sort == "any" and kind.element is not None:
            return self.members(kind.element, items, path)
        if kind.sort == "any" and not kind.preserve:
            return []
        errors: list[str] = []
        seen: set[str] = set()
        for key, item in items:
            where = f"{path}.{key}" if path else key
            if key in seen:
                errors.append(f"duplicate field {json.dumps(where, ensure_ascii=False)}")
            seen.add(key)
            inner = kind.fields.get(key) or kind.element
            if inner is None and kind.preserve and not kind.bare:
                inner = _FREE
            if inner is None:
                errors.append(f"unknown field {json.dumps(where, ensure_ascii=False)}")
            else:
                errors += self.walk(inner, item, where)
        return errors


_FREE: Final = Type("any", "interface {}", preserve=True)
"""Anything goes, yet no key twice: what a custom resource preserves."""
