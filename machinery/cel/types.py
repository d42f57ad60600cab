"""Types, and what is assignable to what.

Source: cel-go common/types/types.go, checker/types.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    """A type; `sort` is one of dyn, null, bool, int, uint, double, string, bytes, timestamp, duration, list, map, type,
    opaque (of a library), object (with fields) and param (stands for any one type)."""

    sort: str
    name: str = ""
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        name = self.name or self.sort
        return f"{name}({', '.join(map(str, self.params))})" if self.params else name


DYN: Final = Type("dyn")
NULL, BOOL, INT, UINT, DOUBLE = Type("null"), Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, TIMESTAMP, DURATION = Type("string"), Type("bytes"), Type("timestamp"), Type("duration")
_SIMPLE: Final = {
    t.sort: t for t in (DYN, NULL, BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION, Type("type"))
}


def list_of(item: Type) -> Type:
    """list(item)."""
    return Type("list", "", (item,))


def map_of(key: Type, value: Type) -> Type:
    """map(key, value)."""
    return Type("map", "", (key, value))


def optional_of(value: Type) -> Type:
    """optional_type(value)."""
    return Type("opaque", "optional_type", (value,))


_WORDS: Final = re.compile(r"[\w.]+|[(),]")


def parse_type(text: str) -> Type:
    """A type from its name: `list(string)`, `map(K, V)` (capital letters alone are parameters), `net.IP`."""
    words = _WORDS.findall(text)
    made, rest = _parsed(words)
    if rest:
        raise ValueError(text)
    return made


def _parsed(words: list[str]) -> tuple[Type, list[str]]:
    name, rest = words[0], words[1:]
    params: list[Type] = []
    if rest and rest[0] == "(":
        while rest[0] != ")":
            param, rest = _parsed(rest[1:])
            params.append(param)
        rest = rest[1:]
    if name in ("list", "map"):
        return Type(name, "", tuple(params)), rest
    if name == "optional":
        return Type("opaque", "optional_type", tuple(params)), rest
    if name in _SIMPLE:
        return _SIMPLE[name], rest
    if len(name) == 1 and name.isupper():
        return Type("param", name), rest
    return Type("opaque", name, tuple(params)), rest


class Mapping:
    """What type parameters have turned out to be."""

    def __init__(self, bound: dict[str, Type] | None = None) -> None:
        self._bound = dict(bound or {})

    def copy(self) -> Mapping:
        """An independent one."""
        return Mapping(self._bound)

    def substitute(self, given: Type, *, params_to_dyn: bool = False) -> Type:
        """The type with what is known put in."""
        if given.sort == "param":
            found = self._bound.get(given.name)
            if found is not None:
                return self.substitute(found, params_to_dyn=params_to_dyn)
            return DYN if params_to_dyn else given
        if not given.params:
            return given
        inner = tuple(self.substitute(p, params_to_dyn=params_to_dyn) for p in given.params)
        return Type(given.sort, given.name, inner)

    def assignable(self, value: Type, target: Type) -> bool:
        """Whether a value can stand where the target is wanted; binds parameters, also when the answer is no."""
        value, target = self.substitute(value), self.substitute(target)
        if target.sort == "param":
            return self._bind(target, value)
        if value.sort == "param":
            return self._bind(value, target)
        if value.sort == "dyn" or target.sort == "dyn":
            return True
        if value.sort == "null":
            return target.sort in ("null", "opaque", "object", "timestamp", "duration")
        if (value.sort, value.name) != (target.sort, target.name) or len(value.params) != len(target.params):
            return False
        if value.sort == "type":
            return True
        return all(self.assignable(v, t) for v, t in zip(value.params, target.params, strict=True))

    def _bind(self, param: Type, other: Type) -> bool:
        if param == other:
            return True
        if _occurs(param, other):
            return False
        self._bound[param.name] = other
        return True


def _occurs(param: Type, inside: Type) -> bool:
    return param == inside or any(_occurs(param, p) for p in inside.params)


def more_general(one: Type, other: Type) -> bool:
    """Whether `one` takes in all of `other`."""
    if one.sort in ("dyn", "param"):
        return True
    if other.sort in ("dyn", "param"):
        return False
    return (one.sort, one.name, len(one.params)) == (other.sort, other.name, len(other.params)) and all(
        more_general(a, b) for a, b in zip(one.params, other.params, strict=True)
    )
