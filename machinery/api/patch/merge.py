"""JSON merge patch (RFC 7386).

Source: RFC 7386; gopkg.in/evanphx/json-patch.v4 (which removes nulls from objects inside new lists as well).
"""

from __future__ import annotations

from typing import Any

from machinery.api.schema_decode import go_value
from machinery.errors import BadRequest


def apply(doc: Any, patch: Any) -> Any:
    """The document with the patch merged into it.

    Raises:
        BadRequest: the patch is no object.
    """
    if patch is None:  # Go makes an empty map of it, which the library then refuses
        raise BadRequest("Invalid JSON Patch")
    if not isinstance(patch, dict):
        what = go_value(patch).split(" ", maxsplit=1)[0]
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        )
    return _merge(doc, patch)


def _merge(current: Any, patch: Any) -> Any:
    if not isinstance(current, dict) or not isinstance(patch, dict):
        return _without_nulls(patch)
    merged = dict(current)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
