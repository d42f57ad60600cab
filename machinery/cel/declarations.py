"""What an environment declares: variables, objects with fields, functions with overloads.

Source: cel-go common/decls; k8s.io/apiserver/pkg/cel/types.go (DeclType).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from machinery.cel.types import DYN, Type, parse_type


@dataclass(eq=False, slots=True)
class Declared:
    """A type with what a schema says of its values: how large they can be, and what they are made of."""

    type: Type
    max_elements: int = 0
    """Characters of a string, bytes, items of a list, entries of a map. 0 where there is no such thing."""
    min_size: int = 1
    """The bytes of its smallest serialised value."""
    fields: dict[str, Field] = field(default_factory=dict)
    element: Declared | None = None
    key: Declared | None = None
    convert: Callable[[Any], Any] | None = None
    """From the JSON to the CEL value; None: they are the same."""


@dataclass(eq=False, slots=True)
class Field:
    """A field of an object: `key` is its name in JSON, which may be none that CEL can spell."""

    key: str
    declared: Declared


@dataclass(frozen=True, slots=True)
class Overload:
    """One way of calling a function. A method's first parameter is what it is called on."""

    id: str
    function: str
    member: bool
    params: tuple[Type, ...]
    result: Type
    implementation: Callable[..., Any] | None = None
    """None for operators that the evaluation knows by itself."""


def overload(
    identity: str, signature: str, implementation: Callable[..., Any] | None = None, *, function: str = ""
) -> Overload:
    """An overload from its signature: `string.contains(string) bool`, `quantity(string) kubernetes.Quantity`; with
    `function` given, the signature leaves the name out: `(int, int) bool`."""
    head, _, result = signature.rpartition(") ")
    called, params = _split(head)
    target = ""
    if not function:
        target, _, function = called.rpartition(".")
        if target in _NAMESPACES:
            target, function = "", called
    types = [parse_type(text) for text in ([target] if target else []) + _separated(params)]
    return Overload(identity, function, bool(target), tuple(types), parse_type(result), implementation)


_NAMESPACES = frozenset(("strings", "lists", "sets", "math", "optional", "cel", "jsonpatch", "format", "ip", "cidr"))


def _split(head: str) -> tuple[str, str]:
    """What stands before the bracket that holds the parameters, and what is in it."""
    depth = 0
    for at in range(len(head) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(head[at], 0)
        if depth < 0:
            return head[:at], head[at + 1 :]
    raise ValueError(head)


def _separated(params: str) -> list[str]:
    made, depth, start = [], 0, 0
    for at, char in enumerate(params):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            made.append(params[start:at])
            start = at + 1
    return [part.strip() for part in (*made, params[start:]) if part.strip()]


class Functions:
    """All functions of an environment, by name."""

    def __init__(self, *libraries: Iterable[Overload]) -> None:
        self._by_name: dict[str, list[Overload]] = {}
        for library in libraries:
            for each in library:
                self._by_name.setdefault(each.function, []).append(each)

    def get(self, name: str) -> list[Overload]:
        """The overloads of a function; none if there is no such function."""
        return self._by_name.get(name, [])


@dataclass(frozen=True, eq=False)
class Scope:
    """What expressions can name: variables, and the fields of objects by the name of their type."""

    variables: Mapping[str, Declared]
    objects: Mapping[str, Mapping[str, Field]] = field(default_factory=dict)
    literals: bool = False
    """Whether Object{…} and JSONPatch{…} can be written (mutations)."""


ANYTHING = Declared(DYN)
"""A variable whose type is known only when it is looked at."""


def scope_of(*names: str, **declared: Declared) -> Scope:
    """A scope of variables that are anything, and of some that are declared."""
    variables = {**dict.fromkeys(names, ANYTHING), **declared}
    return Scope(variables, objects_in(variables.values()))


def objects_in(declared: Iterable[Declared]) -> dict[str, Mapping[str, Field]]:
    """The fields of all object types in these, however deep."""
    found: dict[str, Mapping[str, Field]] = {}
    todo = list(declared)
    while todo:
        each = todo.pop()
        if each.type.sort == "object" and each.type.name not in found:
            found[each.type.name] = each.fields
            todo += [f.declared for f in each.fields.values()]
        todo += [part for part in (each.element, each.key) if part is not None]
    return found
