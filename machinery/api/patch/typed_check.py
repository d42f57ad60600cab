"""Checking that an applied configuration fits its schema, in structured-merge-diff's words.

Source: sigs.k8s.io/structured-merge-diff/v6/typed (validate.go, helpers.go, typed.go).
"""

from __future__ import annotations

from typing import Any

from machinery.api import rawtext
from machinery.api.fielderror import show as quote
from machinery.api.patch import fieldset, goformat
from machinery.api.patch.typed import ElementError, element_of, keys_of
from machinery.api.schema_types import Type

_SCALARS = {"string": "string", "time": "string", "bytes": "string", "boolean": "boolean"}


def errors_of(kind: Type, value: Any) -> str:
    """What is wrong with a configuration, as one message; empty if nothing is."""
    found = _check(kind, value, "")
    if len(found) <= 1:
        return "".join(found)
    return "\n".join(["errors:", *("  " + error for error in found)])


def _at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _check(kind: Type, value: Any, path: str) -> list[str]:
    if value is None or kind.sort == "any":
        return []
    if kind.sort in ("object", "map"):
        if not isinstance(value, dict):
            return [_at(path, f"expected map, got {_pointer(value)}")]
        errors = []
        for name, inner in value.items():
            sort = kind.child(name)
            where = f"{path}.{name}"
            if sort is not None:
                errors += _check(sort, inner, where)
            elif not kind.preserve:
                errors.append(_at(where, "field not declared in schema"))
        return errors
    if kind.sort == "list":
        if not isinstance(value, list):
            return [_at(path, f"expected list, got {_pointer(value)}")]
        return _check_items(kind, value, path)
    return _check_scalar(kind, value, path)


def _check_items(kind: Type, items: list[Any], path: str) -> list[str]:
    assert kind.element is not None
    errors: list[str] = []
    seen: set[str] = set()
    for i, item in enumerate(items):
        shown = f"[{i}]"
        if kind.list_type != "atomic":
            try:
                element = element_of(kind, item)
            except ElementError as exc:
                return [*errors, _at(path, f"element {i}: {exc}")]
            if kind.list_type == "map":
                shown = fieldset.shown_key(keys_of(kind, item))
            else:
                shown = f"[={rawtext.dumps(item).decode()}]"
            if element in seen:
                errors.append(_at(path, f"duplicate entries for key {shown}"))
            seen.add(element)
        errors += _check(kind.element, item, path + shown)
    return errors


def _check_scalar(kind: Type, value: Any, path: str) -> list[str]:
    wanted = _SCALARS.get(kind.sort)
    if wanted == "string" and not isinstance(value, str):
        return [_at(path, f"expected string, got &value.valueUnstructured{{Value:{_verbose(value)}}}")]
    if wanted == "boolean" and not isinstance(value, bool):
        return [_at(path, f"expected boolean, got {_pointer(value)}")]
    if kind.sort in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return [_at(path, f"expected numeric (int or float), got {_go_type(value)}")]
    if isinstance(value, (dict, list)):
        return [_at(path, f"expected any scalar, got {_pointer(value)}")]
    return []


def _pointer(value: Any) -> str:
    """`%v` of a value.Value."""
    return f"&{{{goformat.show(value)}}}"


def _go_type(value: Any) -> str:
    names: dict[type, str] = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
    return names.get(value.__class__, "<nil>")


def _verbose(value: Any) -> str:
    """`%#v` of what JSON was read into."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        members = ", ".join(f"{quote(k)}:{_verbose(v)}" for k, v in sorted(value.items()))
        return f"map[string]interface {{}}{{{members}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_verbose, value))}}}"
    return goformat.show(value)
