"""What an expression is made of. `position` is an offset into the text, where cel-go would point at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Node:
    """Any part of an expression; compared by identity."""

    position: int


@dataclass(eq=False, slots=True)
class Literal(Node):
    """A constant: None, bool, int, UInt, float, str or bytes."""

    value: Any


@dataclass(eq=False, slots=True)
class Ident(Node):
    """A variable, or the first part of a qualified name."""

    name: str


@dataclass(eq=False, slots=True)
class Select(Node):
    """operand.field; `test_only` for has(operand.field)."""

    operand: Node
    field: str
    test_only: bool = False


@dataclass(eq=False, slots=True)
class Call(Node):
    """A function or an operator (`_+_`); with a target, a method."""

    function: str
    target: Node | None
    args: list[Node]


@dataclass(eq=False, slots=True)
class ListNode(Node):
    """[a, b]; `optional` holds the indices of elements written as ?a."""

    elements: list[Node]
    optional: frozenset[int] = frozenset()


@dataclass(eq=False, slots=True)
class Entry:
    """One entry of a map, or one field of an object literal."""

    key: Node | str
    value: Node
    optional: bool = False
    position: int = 0


@dataclass(eq=False, slots=True)
class MapNode(Node):
    """{k: v}."""

    entries: list[Entry]


@dataclass(eq=False, slots=True)
class StructNode(Node):
    """Name{field: v}."""

    name: str
    entries: list[Entry]


@dataclass(eq=False, slots=True)
class Comprehension(Node):
    """What macros such as all() stand for: a fold over `range`."""

    iter_var: str
    iter_var2: str  # "" for macros of one variable
    range: Node
    accu_var: str
    accu_init: Node
    condition: Node
    step: Node
    result: Node


def children(node: Node) -> list[Node]:
    """The nodes directly inside."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return [*([node.target] if node.target is not None else []), *node.args]
    if isinstance(node, ListNode):
        return list(node.elements)
    if isinstance(node, MapNode | StructNode):
        return [n for e in node.entries for n in (e.key, e.value) if isinstance(n, Node)]
    if isinstance(node, Comprehension):
        return [node.range, node.accu_init, node.condition, node.step, node.result]
    return []


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an expression, and where."""

    position: int
    message: str


@dataclass(slots=True)
class Problems:
    """What is wrong with one text, told as cel-go tells it."""

    text: str
    found: list[Problem] = field(default_factory=list)

    def add(self, position: int, message: str) -> None:
        """One more."""
        self.found.append(Problem(position, message))

    def __str__(self) -> str:
        return "\n".join(self._told(problem) for problem in sorted(self.found, key=lambda p: p.position))

    def _told(self, problem: Problem) -> str:
        start = self.text.rfind("\n", 0, problem.position) + 1
        line, column = self.text.count("\n", 0, problem.position) + 1, problem.position - start
        shown = self.text[start:].partition("\n")[0].replace("\t", " ")
        return f"ERROR: <input>:{line}:{column + 1}: {problem.message}\n | {shown}\n | {'.' * column}^"
