"""Leaving out what a schema does not describe, of values that stand inside a resource (defaults, for one).

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.structural.words import EMBEDDED, PRESERVE

_META: Final = frozenset(("apiVersion", "kind", "metadata"))


def pruned(schema: Mapping[str, Any], value: Any) -> Any:
    """The value without unknown fields; changed in place."""
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            value[:] = [pruned(items, item) for item in value]
        elif not schema.get(PRESERVE):
            value[:] = [pruned({}, item) for item in value]
        return value
    if not isinstance(value, dict):
        return value
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    kept = _META if schema.get(EMBEDDED) else frozenset()
    for name in list(value):
        if name in properties:
            if not (name == "metadata" and schema.get(EMBEDDED)):
                value[name] = pruned(properties[name], value[name])
        elif rest and name not in kept:
            value[name] = pruned(rest if isinstance(rest, Mapping) else {}, value[name])
        elif not (schema.get(PRESERVE) or name in kept):
            del value[name]
    return value
