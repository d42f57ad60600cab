"""How much an expression can cost at worst, as cel-go and Kubernetes estimate it.

Which rules a CustomResourceDefinition may have depends on these numbers, so they are upstream's, to the unit.

Source: cel-go checker/cost.go; k8s.io/apiserver/pkg/cel/library/cost.go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from machinery.cel.ast import Call, Comprehension, Ident, ListNode, Literal, MapNode, Node, Select, StructNode
from machinery.cel.checker import Checked
from machinery.cel.declarations import Declared, Scope
from machinery.cel.macros import ACCUMULATOR
from machinery.cel.types import Type

MOST: Final = 2**64 - 1
TRAVERSAL: Final = 0.1
REGEX_LENGTH: Final = 0.25


class Range(NamedTuple):
    """A least and a most: of a size, or of a cost."""

    low: int
    high: int

    def __add__(self, other: Range) -> Range:  # type: ignore[override]
        return Range(min(self.low + other.low, MOST), min(self.high + other.high, MOST))

    def times(self, other: Range) -> Range:
        """The product."""
        return Range(min(self.low * other.low, MOST), min(self.high * other.high, MOST))

    def scaled(self, factor: float) -> Range:
        """Multiplied by a factor and rounded up."""
        return Range(_scaled(self.low, factor), _scaled(self.high, factor))

    def union(self, other: Range) -> Range:
        """What takes in both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scaled(number: int, factor: float) -> int:
    return min(math.ceil(float(number) * factor), MOST)


NOTHING, ONE, UNKNOWN = Range(0, 0), Range(1, 1), Range(0, MOST)
_SCALARS: Final = frozenset(("bool", "int", "uint", "double", "null", "timestamp", "duration"))
Path = tuple[str, ...]


class Entries(NamedTuple):
    """The sizes of what a list or a map holds."""

    container: str
    key: Range
    value: Range


@dataclass(slots=True)
class _Local:
    path: Path
    size: Range | None
    entries: Entries | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A node as functions' estimates see it."""

    path: Path
    type: Type
    size: Range | None
    node: Node | None = None


class Priced(NamedTuple):
    """What a call costs beyond its arguments, and how large its result is (None: not said)."""

    cost: Range
    size: Range | None = None


@dataclass
class Estimator:
    """Walks one expression."""

    checked: Checked
    scope: Scope
    _sizes: dict[Node, Range] = field(default_factory=dict)
    _entries: dict[Node, Entries] = field(default_factory=dict)
    _paths: dict[Node, Path] = field(default_factory=dict)
    _locals: dict[str, list[_Local]] = field(default_factory=dict)

    def cost(self, node: Node) -> Range:
        """The cost of a node with all inside it."""
        if isinstance(node, Literal):
            return NOTHING
        if isinstance(node, Ident):
            local = self._local(node.name)
            self._paths[node] = local.path if local else (node.name.removeprefix("."),)
            return ONE
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode):
            return self._map(node)
        if isinstance(node, StructNode):
            total = NOTHING
            for entry in node.entries:
                total += self.cost(entry.value)
            return total + Range(40, 40)
        assert isinstance(node, Comprehension)
        return self._bind(node) if node.iter_var == "#unused" else self._comprehension(node)

    # -- sizes -------------------------------------------------------------------------------------------------------

    def _local(self, name: str) -> _Local | None:
        found = self._locals.get(name)
        return found[-1] if found else None

    def _path(self, node: Node) -> Path:
        if isinstance(node, Ident) and (local := self._local(node.name)):
            return local.path
        return self._paths.get(node, ())

    def size(self, node: Node) -> Range | None:
        """The size of a node's value, if anything is known of it."""
        if node in self._sizes:
            return self._sizes[node]
        if (size := _literal_size(node)) is not None:
            return size
        found = self.declared_size(self._path(node))
        if found is not None:
            self._sizes[node] = found
            return found
        if self.checked.types[node].sort in _SCALARS:
            return ONE
        if isinstance(node, Ident) and (local := self._local(node.name)):
            return local.size
        return None

    def size_or_unknown(self, node: Node) -> Range:
        """The size of a node's value, or anything."""
        return self.size(node) or UNKNOWN

    def declared_size(self, path: Path) -> Range | None:
        """The size that the schema allows at a path."""
        declared = self._declared(path)
        return Range(0, declared.max_elements) if declared is not None else None

    def _declared(self, path: Path) -> Declared | None:
        if not path or path[0] not in self.scope.variables:
            return None
        found: Declared | None = self.scope.variables[path[0]]
        if found is None or (found.type.sort == "dyn" and not found.max_elements):
            return None
        for name in path[1:]:
            if found is None:
                return None
            if name in ("@items", "@values"):
                found = found.element
            elif name == "@keys":
                found = found.key
            else:
                inner = found.fields.get(name)
                found = inner.declared if inner is not None else None
        return found

    def part(self, node: Node) -> Part:
        """The node, for an estimate of a function."""
        path = self._path(node)
        return Part(() if path and path[0] == ACCUMULATOR else path, self.checked.types[node], self.size(node), node)

    def entries(self, node: Node) -> Entries | None:
        """The sizes of what a node's value holds."""
        if node in self._entries:
            return self._entries[node]
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.entries if local else None

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _select(self, node: Select) -> Range:
        if node in self.checked.type_values or node in self.checked.qualified:
            return ONE
        total = self.cost(node.operand)
        if node.test_only:
            return total  # Kubernetes: presence tests cost nothing
        if self.checked.types[node.operand].sort in ("map", "object", "param"):
            total += ONE
        self._paths[node] = (*self._path(node.operand), node.field)
        return total

    def _call(self, node: Call) -> Range:
        from machinery.cel import callcost

        if node.function == "dyn" and node.target is None:
            total = ONE + self.cost(node.args[0])
            self._copy(node, node.args[0])
            return total
        method = node.target is not None and node not in self.checked.qualified
        costs = [self.cost(arg) for arg in node.args]
        total = self.cost(node.target) if method and node.target is not None else NOTHING
        target = self.part(node.target) if method and node.target is not None else None
        args = [self.part(arg) for arg in node.args]
        priced = Range(MOST, 0)
        result: Range | None = None
        for overload in self.checked.overloads.get(node, ()):
            made = callcost.estimate(self, node, overload, target, args, costs)
            priced = priced.union(made.cost)
            if made.size is not None:
                result = made.size if result is None else result.union(made.size)
            if overload.id in ("index_list", "index_map"):
                held = self.entries(node.args[0])
                result = held.value if held else None
                self._paths[node] = (*self._path(node.args[0]), "@items" if overload.id == "index_list" else "@values")
            if result is None:
                result = self.size(node)
        if result is not None:
            self._sizes[node] = result
        return total + priced

    def _copy(self, into: Node, source: Node) -> None:
        if (size := self.size(source)) is not None:
            self._sizes[into] = size
        if (held := self.entries(source)) is not None:
            self._entries[into] = held

    def _list(self, node: ListNode) -> Range:
        total, item = Range(10, 10), Range(MOST if node.elements else 0, 0)
        for element in node.elements:
            total += self.cost(element)
            item = item.union(self.size_or_unknown(element))
        self._entries[node] = Entries("list", ONE, item)
        return total

    def _map(self, node: MapNode) -> Range:
        least = MOST if node.entries else 0
        total, key, value = Range(30, 30), Range(least, 0), Range(least, 0)
        for entry in node.entries:
            assert isinstance(entry.key, Node)
            total += self.cost(entry.key) + self.cost(entry.value)
            key = key.union(self.size_or_unknown(entry.key))
            value = value.union(self.size_or_unknown(entry.value))
        self._entries[node] = Entries("map", key, value)
        return total

    def set_entries(self, node: Node, one: Node, other: Node) -> None:
        """What `node` holds is what either of two holds."""
        first, second = self.entries(one), self.entries(other)
        if first and second:
            self._entries[node] = Entries(first.container, first.key.union(second.key), first.value.union(second.value))

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _comprehension(self, node: Comprehension) -> Range:
        total = self.cost(node.range) + self.cost(node.accu_init)
        self._push(
            node.accu_var, _Local(self._path(node.accu_init), self.size(node.accu_init), self.entries(node.accu_init))
        )
        held, path = self.entries(node.range), self._path(node.range)
        container = held.container if held else self.checked.types[node.range].sort
        key = _Local((*path, "@indices" if container == "list" else "@keys"), held.key if held else None)
        value = _Local((*path, "@items" if container == "list" else "@values"), held.value if held else None)
        if node.iter_var2:
            self._push(node.iter_var, key)
            self._push(node.iter_var2, value)
        else:
            self._push(node.iter_var, value if container == "list" else key)
        each = self.cost(node.condition) + self.cost(node.step)
        self._locals[node.iter_var].pop()
        if node.iter_var2:
            self._locals[node.iter_var2].pop()
        total += self.cost(node.result)
        self._locals[node.accu_var].pop()
        count = self.size_or_unknown(node.range)
        total += count.times(each)
        if isinstance(node.accu_init, Literal):
            self._sizes[node] = self.size_or_unknown(node.accu_init)
        elif isinstance(node.accu_init, ListNode | MapNode):
            self._sizes[node] = count
            if (stepped := self.entries(node.step)) is not None:
                self._entries[node] = stepped
        return total

    def _bind(self, node: Comprehension) -> Range:
        total = self.cost(node.range) + self.cost(node.accu_init)
        init = node.accu_init
        self._push(node.accu_var, _Local(self._path(init), self.size(init), self.entries(init)))
        total += self.cost(node.result)
        self._locals[node.accu_var].pop()
        self._copy(node, node.result)
        return total


def _literal_size(node: Node) -> Range | None:
    if isinstance(node, Literal):
        value: Any = node.value
        size = len(value) if isinstance(value, str | bytes) else 1
        return Range(size, size)
    if isinstance(node, ListNode):
        return Range(len(node.elements), len(node.elements))
    if isinstance(node, MapNode):
        return Range(len(node.entries), len(node.entries))
    return None


def estimate(checked: Checked, scope: Scope) -> Range:
    """The least and the most that an expression can cost."""
    return Estimator(checked, scope).cost(checked.root)
