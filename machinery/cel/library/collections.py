"""Lists, sets and optionals.

Source: k8s.io/apiserver/pkg/cel/library/lists.go; cel-go ext/{lists,sets}.go, cel/library.go (optional types).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, Final

from machinery.cel.declarations import Overload, overload
from machinery.cel.errors import EvaluationError
from machinery.cel.operators import add, compare
from machinery.cel.values import NONE, Duration, Optional, UInt, equal

_ORDERED: Final = ("int", "uint", "double", "bool", "string", "bytes", "timestamp", "duration")
_MOST_ITEMS: Final = 1_000_000


def _is_sorted(items: list[Any]) -> bool:
    return all(compare(one, other) <= 0 for one, other in itertools.pairwise(items))


def _sum(items: list[Any]) -> Any:
    return functools.reduce(add, items) if items else 0


def _unwrapped(items: list[Any]) -> list[Any]:
    return [item.value for item in items if item.present]


def _empty_sum(zero: Any) -> Any:
    return lambda items: functools.reduce(add, items) if items else zero


def _extreme(wanted: int, name: str) -> Any:
    def find(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        best = items[0]
        for item in items[1:]:
            if compare(item, best) == wanted:
                best = item
        return best

    return find


def _index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if equal(item, wanted)), -1)


def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if equal(items[i], wanted)), -1)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    made: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth > 0:
            made += _flatten(item, depth - 1)
        else:
            made.append(item)
    return made


def _distinct(items: list[Any]) -> list[Any]:
    made: list[Any] = []
    for item in items:
        if not any(equal(item, have) for have in made):
            made.append(item)
    return made


def _range(count: int) -> list[int]:
    if count > _MOST_ITEMS:
        raise EvaluationError("operation cancelled: actual cost limit exceeded")
    return list(range(count))


def _sort(items: list[Any]) -> list[Any]:
    return sorted(items, key=functools.cmp_to_key(compare))


def _sort_by_keys(items: list[Any], keys: list[Any]) -> list[Any]:
    order = functools.cmp_to_key(compare)
    return [item for item, _ in sorted(zip(items, keys, strict=True), key=lambda pair: order(pair[1]))]


def _contains(one: list[Any], other: list[Any]) -> bool:
    return all(any(equal(item, have) for have in one) for item in other)


def _zero(value: Any) -> bool:
    if value is None or value is False:
        return True
    if isinstance(value, str | bytes | list | Mapping):
        return len(value) == 0
    if isinstance(value, Duration):
        return value.nanoseconds == 0
    return isinstance(value, int | float) and value == 0 and not isinstance(value, bool)


def _or(one: Optional, other: Optional) -> Optional:
    return one if one.present else other


def _ordered() -> list[Overload]:
    zeros: dict[str, Any] = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}
    made = []
    for kind in _ORDERED:
        made += [
            overload(f"list_{kind}_is_sorted_bool", f"list({kind}).isSorted() bool", _is_sorted),
            overload(f"list_{kind}_max_{kind}", f"list({kind}).max() {kind}", _extreme(1, "max")),
            overload(f"list_{kind}_min_{kind}", f"list({kind}).min() {kind}", _extreme(-1, "min")),
            overload(f"list_{kind}_sort", f"list({kind}).sort() list({kind})", _sort),
            overload(
                f"list_{kind}_sortByAssociatedKeys",
                f"list(A).@sortByAssociatedKeys(list({kind})) list(A)",
                _sort_by_keys,
            ),
        ]
        if kind in zeros:
            made.append(overload(f"list_{kind}_sum_{kind}", f"list({kind}).sum() {kind}", _empty_sum(zeros[kind])))
    return made


FUNCTIONS: Final = [
    *_ordered(),
    overload("list_a_index_of_int", "list(A).indexOf(A) int", _index_of),
    overload("list_a_last_index_of_int", "list(A).lastIndexOf(A) int", _last_index_of),
    overload("list_slice", "list(A).slice(int, int) list(A)", _slice),
    overload("list_flatten", "list(list(A)).flatten() list(A)", _flatten),
    overload("list_flatten_int", "list(dyn).flatten(int) list(dyn)", _flatten),
    overload("list_distinct", "list(A).distinct() list(A)", _distinct),
    overload("list_reverse", "list(A).reverse() list(A)", lambda items: items[::-1]),
    overload("lists_range", "lists.range(int) list(int)", _range),
    overload("list_sets_contains_list", "sets.contains(list(A), list(A)) bool", _contains),
    overload(
        "list_sets_equivalent_list",
        "sets.equivalent(list(A), list(A)) bool",
        lambda one, other: _contains(one, other) and _contains(other, one),
    ),
    overload(
        "list_sets_intersects_list",
        "sets.intersects(list(A), list(A)) bool",
        lambda one, other: any(equal(a, b) for a in one for b in other),
    ),
    overload("optional_of", "optional.of(A) optional(A)", Optional),
    overload(
        "optional_ofNonZeroValue", "optional.ofNonZeroValue(A) optional(A)", lambda v: NONE if _zero(v) else Optional(v)
    ),
    overload("optional_none", "optional.none() optional(A)", lambda: NONE),
    overload("optional_hasValue", "optional(A).hasValue() bool", lambda v: v.present),
    overload("optional_value", "optional(A).value() A", lambda v: v.value),
    overload("optional_or_optional", "optional(A).or(optional(A)) optional(A)", _or),
    overload("optional_orValue_value", "optional(A).orValue(A) A", lambda v, other: v.value if v.present else other),
    overload("list_first", "list(A).first() optional(A)", lambda items: Optional(items[0]) if items else NONE),
    overload("list_last", "list(A).last() optional(A)", lambda items: Optional(items[-1]) if items else NONE),
    overload("optional_unwrap", "optional.unwrap(list(optional(A))) list(A)", _unwrapped),
    overload("optional_unwrapOpt", "list(optional(A)).unwrapOpt() list(A)", _unwrapped),
]
