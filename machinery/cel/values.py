"""Values that JSON has not, and what is equal to what.

null, booleans, int, double, string, bytes, lists and maps are Python's own: None, bool, int, float, str, bytes, list,
dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from machinery.cel.errors import EvaluationError

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Nanoseconds since 1970, UTC."""

    nanoseconds: int
    offset: int = field(default=0, compare=False)
    """The seconds by which the zone it was written in is ahead; for showing it only."""


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """Nanoseconds."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value."""

    name: str


_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may not be there."""

    _value: Any = _NOTHING

    @property
    def present(self) -> bool:
        """Whether there is one."""
        return self._value is not _NOTHING

    @property
    def value(self) -> Any:
        """It. Raises EvaluationError."""
        if self._value is _NOTHING:
            raise EvaluationError("optional.none() dereference")
        return self._value


NONE: Final = Optional()


class SetList(list[Any]):
    """A list with x-kubernetes-list-type: set; the order does not matter."""

    __slots__ = ()


class MapList(list[Any]):
    """A list with x-kubernetes-list-type: map; items are told apart by `keys`, the order does not matter."""

    __slots__ = ("keys",)

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> str:
        """What tells an item from the others."""
        return repr([item.get(key) for key in self.keys]) if isinstance(item, dict) else repr(item)


def is_number(value: Any) -> bool:
    """Whether it is an int, uint or double."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Any, other: Any) -> bool:
    """CEL's ==: numbers by value whatever their type; values of different types are not equal."""
    kind = one.__class__
    if kind is other.__class__ and (kind is str or kind is int or kind is bool):
        return bool(one == other)
    if is_number(one):
        return is_number(other) and bool(one == other)
    if isinstance(one, list):
        return isinstance(other, list) and _lists_equal(one, other)
    if isinstance(one, Mapping):
        return (
            isinstance(other, Mapping)
            and len(one) == len(other)
            and all(key in other and equal(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, Optional):
        if not isinstance(other, Optional) or one.present != other.present:
            return False
        return not one.present or equal(one.value, other.value)
    return kind is other.__class__ and bool(one == other)


def _lists_equal(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, SetList):
        return all(any(equal(a, b) for b in other) for a in one)
    if isinstance(one, MapList):
        keyed = {one.key(item): item for item in other}
        return all(one.key(item) in keyed and equal(item, keyed[one.key(item)]) for item in one)
    return all(equal(a, b) for a, b in zip(one, other, strict=True))


def combined(one: list[Any], other: list[Any]) -> list[Any]:
    """CEL's + of lists; sets and maps keep each item once."""
    if isinstance(one, SetList):
        return SetList([*one, *(item for item in other if not any(equal(item, have) for have in one))])
    if isinstance(one, MapList):
        given = {one.key(item): item for item in other}
        kept = [given.pop(one.key(item), item) for item in one]
        return MapList([*kept, *given.values()], one.keys)
    return [*one, *other]


_NAMES: Final[dict[type, str]] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map",
    SetList: "list", MapList: "list", Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    TypeValue: "type", Optional: "optional_type", type(None): "null_type",
}  # fmt: skip


def type_name(value: Any) -> str:
    """The name of a value's type."""
    found = _NAMES.get(value.__class__)
    return found if found is not None else str(getattr(value, "type_name", value.__class__.__name__))
