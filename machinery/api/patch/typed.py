"""Objects seen through their schema: which fields they have, how two differ, what merging and removing leaves.

Source: sigs.k8s.io/structured-merge-diff/v6/typed (tofieldset.go, compare.go, merge.go, remove.go, helpers.go).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from machinery.api import rawtext
from machinery.api.patch.fieldset import LEAF, SELF, FieldSet, below, has, node_of
from machinery.api.schema_types import ANY, Type

_MISSING: Final = object()


class ElementError(ValueError):
    """An item of a list has no identity."""


def is_leaf(kind: Type, value: Any) -> bool:
    """Whether the value is owned as a whole."""
    if isinstance(value, dict):
        return kind.atomic or kind.sort not in ("object", "map", "any")
    if isinstance(value, list):
        return kind.sort != "list" or kind.list_type == "atomic"
    return True


def element_of(kind: Type, item: Any) -> str:
    """The path element of an item of a list that is a set or a map.

    Raises:
        ElementError: it has none; the message is upstream's.
    """
    if kind.list_type == "set":
        if isinstance(item, (dict, list)):
            sort = "map" if isinstance(item, dict) else "list"
            raise ElementError(f"associative list without keys has an element that's a {sort} type")
        if item is None:
            raise ElementError("associative list without keys has an element that's an explicit null")
        return "v:" + rawtext.dumps(item).decode()
    return "k:" + rawtext.dumps(dict(sorted(keys_of(kind, item).items()))).decode()


def keys_of(kind: Type, item: Any) -> dict[str, Any]:
    """The keys that identify an item of a list that is a map. Raises ElementError."""
    if item is None:
        raise ElementError("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise ElementError("associative list with keys may not have non-map elements")
    defaults = kind.element.defaults if kind.element is not None else {}
    keys = {}
    for name in kind.map_keys:
        value = item.get(name, _MISSING)
        if value is _MISSING:
            value = defaults.get(name, _MISSING)
        if value is not _MISSING:
            keys[name] = value
    if not keys:
        listed = ", ".join(f'"{name}"' for name in kind.map_keys)
        raise ElementError(
            f"associative list with keys has an element that omits all key fields [{listed.replace(', ', ' ')}] "
            "(and doesn't have default values for any key fields)"
        )
    return keys


def _items(kind: Type, values: list[Any] | None) -> dict[str, list[Any]]:
    """Items by path element, those with equal ones together."""
    found: dict[str, list[Any]] = {}
    for item in values or ():
        found.setdefault(element_of(kind, item), []).append(item)
    return found


def fields_of(kind: Type, value: Any) -> FieldSet:
    """The fields that an applied configuration claims (below a value that is no leaf)."""
    if isinstance(value, dict):
        made = {}
        for name, inner in value.items():
            sort = kind.child(name) or ANY
            node = _claimed(sort, inner, named=name in kind.fields)
            if node is not None:
                made["f:" + name] = node
        return made
    return {
        element: (_claimed(kind.element or ANY, values[0], named=False) if len(values) == 1 else LEAF) or LEAF
        for element, values in _items(kind, value).items()
    }


def _claimed(kind: Type, value: Any, *, named: bool) -> FieldSet | None:
    if is_leaf(kind, value) or value == {}:
        return LEAF
    return node_of(fields_of(kind, value), member=not named)


def whole(kind: Type, value: Any) -> FieldSet:
    """The node of a value that came or went as a whole: itself and everything in it."""
    if not value or is_leaf(kind, value):
        return LEAF
    made: FieldSet = {SELF: LEAF}
    if isinstance(value, dict):
        fields, rest = kind.fields, kind.element or ANY
        for name, inner in value.items():
            plain = inner.__class__ is not dict and inner.__class__ is not list
            made["f:" + name] = LEAF if plain else whole(fields.get(name) or rest, inner)
    else:
        for element, values in _items(kind, value).items():
            made[element] = whole(kind.element or ANY, values[0]) if len(values) == 1 else LEAF
    return made


@dataclass(slots=True)
class Difference:
    """How two objects differ."""

    added: FieldSet = field(default_factory=dict)
    modified: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)

    def under(self, element: str, inner: Difference) -> None:
        """Take in the differences below `element`."""
        if inner.added:
            self.added[element] = inner.added
        if inner.modified:
            self.modified[element] = inner.modified
        if inner.removed:
            self.removed[element] = inner.removed


def compare(kind: Type, old: Any, new: Any) -> Difference:
    """The differences of two values of a structure, map or list that is not owned as a whole. Raises ElementError."""
    found = Difference()
    if isinstance(old, list) or isinstance(new, list):
        before, after = _items(kind, old), _items(kind, new)
        for element, values in after.items():
            _compare_items(found, kind.element or ANY, element, before.get(element, []), values)
        for element, values in before.items():
            if element not in after:
                found.removed[element] = whole(kind.element or ANY, values[0]) if len(values) == 1 else LEAF
        return found
    old, new = old or {}, new or {}
    fields, rest = kind.fields, kind.element or ANY
    for name, value in new.items():
        if name not in old:
            found.added["f:" + name] = whole(fields.get(name) or rest, value)
            continue
        before = old[name]
        if before is not value and before != value:
            _compare_field(found, fields.get(name) or rest, "f:" + name, before, value)
    for name, value in old.items():
        if name not in new:
            found.removed["f:" + name] = whole(fields.get(name) or rest, value)
    return found


def _compare_field(found: Difference, kind: Type, element: str, old: Any, new: Any) -> None:
    """Two values, both there (null counts as there) and different."""
    given = [v for v in (old, new) if v is not None]
    different_sorts = len({v.__class__ for v in given}) > 1
    if (not old and not new) or different_sorts or any(is_leaf(kind, v) for v in given):
        found.modified[element] = LEAF
    else:
        found.under(element, compare(kind, old, new))


def _compare_items(found: Difference, kind: Type, element: str, old: list[Any], new: list[Any]) -> None:
    if old == new:
        return
    if not old:
        found.added[element] = whole(kind, new[0]) if len(new) == 1 else LEAF
    elif len(old) == 1 and len(new) == 1:
        _compare_field(found, kind, element, old[0], new[0])
    elif len(new) == 1:  # no longer there twice
        found.added[element] = whole(kind, new[0])
    else:  # an item that is there twice is owned as a whole
        found.modified[element] = LEAF
        if len(old) == 1:
            found.removed[element] = whole(kind, old[0])


def merge(kind: Type, live: Any, applied: Any) -> Any:
    """`live` with what `applied` says laid over it; lists that are maps or sets are merged by item."""
    if applied is None:
        return live if live and not is_leaf(kind, live) else None  # a null takes what is owned as a whole
    if live is None or is_leaf(kind, applied) or live.__class__ is not applied.__class__:
        return applied
    if not applied:
        return live or applied
    if isinstance(applied, dict):
        merged = dict(live)
        for name, value in applied.items():
            inner = kind.child(name) or ANY
            merged[name] = merge(inner, live[name], value) if name in live else value
        return merged
    return _merge_lists(kind, live, applied)


def _merge_lists(kind: Type, live: list[Any], applied: list[Any]) -> list[Any]:
    """Applied items keep their order, and so do live ones as far as that allows."""
    element = kind.element or ANY
    left, right = [element_of(kind, v) for v in live], [element_of(kind, v) for v in applied]
    seen_left, seen_right = _items(kind, live), dict(zip(right, applied, strict=True))
    shared = [e for e in right if e in seen_left]
    expected = iter(shared)
    next_shared = next(expected, None)
    done: set[str] = set()
    out: list[Any] = []

    def take(name: str) -> None:
        nonlocal next_shared
        done.add(name)
        mine = seen_left.get(name, [])
        out.append(merge(element, mine[0], seen_right[name]) if len(mine) == 1 else seen_right[name])
        if next_shared == name:
            next_shared = next(expected, None)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left):
            name = left[i]
            if j < len(right):
                if name == right[j]:
                    take(name)
                    i, j = i + 1, j + 1
                    continue
                if name in seen_right and next_shared is not None and next_shared != name:
                    i += 1
                    continue
            if name not in seen_right:
                out.append(live[i])
                i += 1
                continue
            if name in done:
                i += 1
        if j < len(right):
            take(right[j])
            j += 1
    return out


def without(kind: Type, value: Any, gone: FieldSet) -> Any:
    """The value without these fields; what loses all that is in it stays, empty. Raises ElementError."""
    if not value:
        return value
    if is_leaf(kind, value):
        return None if isinstance(value, (dict, list)) else value
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            node = gone.get("f:" + name)
            if node is None:
                kept[name] = inner
            elif not has(node):
                kept[name] = without(kind.child(name) or ANY, inner, node)
        return kept
    items = []
    for item in value:
        node = gone.get(element_of(kind, item))
        if node is None:
            items.append(item)
        elif not has(node):
            items.append(without(kind.element or ANY, item, below(node)))
    return items
