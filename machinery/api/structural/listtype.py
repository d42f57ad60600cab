"""Lists that are sets or maps: what is in them twice, and which items belong together across an update.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype; k8s.io/apiserver/pkg/cel/common (equality.go,
maplist.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural.words import LIST_KEYS, LIST_TYPE

MISSING: Final = object()
"""What there is not, in place of an old value."""


def by_keys(s: Mapping[str, Any], new: list[Any], old: Any) -> list[Any]:
    """What each item was before, in a list whose items have keys; MISSING where nothing can be told."""
    if s.get(LIST_TYPE) != "map" or not isinstance(old, list):
        return [MISSING] * len(new)
    keys = s.get(LIST_KEYS) or ()
    known = {_key(keys, item): item for item in reversed(old) if isinstance(item, dict)}
    return [known.get(_key(keys, item), MISSING) if isinstance(item, dict) else MISSING for item in new]


def counterparts(s: Mapping[str, Any], new: list[Any], old: Any) -> list[Any]:
    """What each item is compared with to tell whether it has changed: of a list that does not say its type, what stood
    at its place."""
    if s.get(LIST_TYPE) is not None or not isinstance(old, list):
        return by_keys(s, new, old)
    return [old[i] if i < len(old) and old[i] is not None else MISSING for i in range(len(new))]


def _key(keys: Any, item: Mapping[str, Any]) -> str:
    return fielderror.show({name: item[name] for name in keys if name in item})


def duplicates(s: Mapping[str, Any], value: Any, path: str) -> Iterator[FieldError]:
    """Items that a set or a list with keys has twice."""
    if isinstance(value, dict):
        rest, properties = s.get("additionalProperties"), s.get("properties") or {}
        for name, inner in value.items():
            if isinstance(rest, Mapping):
                yield from duplicates(rest, inner, f"{path}[{name}]")
            if name in properties:
                yield from duplicates(properties[name], inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        kind = s.get(LIST_TYPE)
        if kind == "set":
            yield from _twice([fielderror.show(item) for item in value], path)
        elif kind == "map":
            yield from _keyed(s.get(LIST_KEYS) or (), value, path)
        items = s.get("items")
        if isinstance(items, Mapping):
            for i, item in enumerate(value):
                yield from duplicates(items, item, f"{path}[{i}]")


def _keyed(keys: Any, value: list[Any], path: str) -> Iterator[FieldError]:
    for i, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            yield fielderror.invalid(f"{path}[{i}]", item, "must be an object for an array of list-type map")
            return
    yield from _twice([_key(keys, item or {}) for item in value], path)


def _twice(shown: list[str], path: str) -> Iterator[FieldError]:
    """What comes a second time is told; what comes a third time, not once more."""
    seen: dict[str, int] = {}
    for i, each in enumerate(shown):
        seen[each] = seen.get(each, 0) + 1
        if seen[each] == 2:
            yield FieldError("FieldValueDuplicate", f"{path}[{i}]", f"Duplicate value: {each}")
