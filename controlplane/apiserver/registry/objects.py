"""Reading JSON that a client sent: what is absent, null or of another type reads as empty.

The schema lets null through for most fields; these readers spare every rule the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from machinery.api.meta import Object


def sub(obj: Any, *path: str) -> Object:
    """The object at this path, or an empty one (not to be written to)."""
    for key in path:
        if obj.__class__ is not dict:
            return {}
        obj = obj.get(key)
    return obj if obj.__class__ is dict else {}


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    """What is at this path, whatever it is."""
    for key in path:
        if obj.__class__ is not dict:
            return None
        obj = obj.get(key)
    return obj


def child(obj: Object, key: str) -> Object:
    """The object under this key, made if it isn't there: for writing into."""
    found = obj.get(key)
    if not isinstance(found, dict):
        found = obj[key] = {}
    return found


def items(obj: Any, *path: str) -> list[Object]:
    """The list of objects at this path; elements of another type read as empty objects."""
    found = values(obj, *path)
    for element in found:
        if element.__class__ is not dict:
            return [e if e.__class__ is dict else {} for e in found]
    return found


def values(obj: Any, *path: str) -> list[Any]:
    """The list at this path, or an empty one."""
    found = _at(obj, path)
    return found if found.__class__ is list else []


def text(obj: Any, *path: str) -> str:
    """The string at this path, or ""."""
    found = _at(obj, path)
    return found if found.__class__ is str else ""


def number(obj: Any, *path: str) -> int:
    """The integer at this path, or 0."""
    found = _at(obj, path)
    return found if found.__class__ is int else 0


def integer(obj: Any, *path: str) -> int | None:
    """The integer at this path, or None."""
    found = _at(obj, path)
    return found if found.__class__ is int else None


def flag(obj: Any, *path: str) -> bool:
    """The boolean at this path, or False."""
    return _at(obj, path) is True


def strings(obj: Any, *path: str) -> dict[str, str]:
    """The map of strings at this path (labels, node selectors), or an empty one."""
    found = sub(obj, *path)
    return {k: v if isinstance(v, str) else "" for k, v in found.items()}


def put_absent(obj: Object, **values_: Any) -> None:
    """Set each key that is absent or null."""
    for key, value in values_.items():
        if obj.get(key) is None:
            obj[key] = value


def put_empty(obj: Object, **values_: Any) -> None:
    """Set each key that is absent, null or an empty string: where upstream's field is not a pointer."""
    for key, value in values_.items():
        if obj.get(key) in (None, ""):
            obj[key] = value


def set_or_drop(obj: Object, key: str, old: Mapping[str, Any]) -> None:
    """Make `obj[key]` what `old` has, or nothing where `old` has nothing."""
    if key in old:
        obj[key] = old[key]
    else:
        obj.pop(key, None)
