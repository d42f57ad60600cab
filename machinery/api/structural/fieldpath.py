"""Paths to fields as rules and selectable fields write them: `.spec.a`, `.spec['a.b']`, `.list[0]`.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go (ValidFieldPath).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_STEP: Final = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\d+))\]""")


def resolve(path: str, schema: Mapping[str, Any], *, arrays: bool = True) -> tuple[list[str], Mapping[str, Any]]:
    """The names on a path and the schema it leads to. Raises ValueError saying what is wrong."""
    if not path:
        raise ValueError("must not be empty")
    names: list[str] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ValueError(
                f"expected [ or . but got: {path[at]}" if path[at] not in "[." else "does not refer to a valid field"
            )
        if step[4] is not None:
            items = schema.get("items")
            if not arrays or not isinstance(items, Mapping):
                raise ValueError("does not refer to a valid field")
            names.append(step[4])
            schema = items
        else:
            name = step[1] or re.sub(r"\\(.)", r"\1", step[2] if step[2] is not None else step[3] or "")
            schema = _member(schema, name)
            names.append(name)
        at = step.end()
    return names, schema


def _member(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    known = (schema.get("properties") or {}).get(name)
    if known is not None:
        return dict(known)
    rest = schema.get("additionalProperties")
    if isinstance(rest, Mapping):
        return rest
    raise ValueError("does not refer to a valid field")
