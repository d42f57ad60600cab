"""What macros stand for.

Source: cel-go parser/macro.go, ext/bindings.go, ext/comprehensions.go, ext/lists.go, cel/library.go (optional types).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machinery.cel.ast import Call, Comprehension, Entry, Ident, ListNode, Literal, MapNode, Node, Problems, Select

ACCUMULATOR: Final = "@result"
UNUSED: Final = "#unused"
Expand = Callable[[int, Node, list[Node], Problems], "Node | None"]


def expand(position: int, name: str, target: Node | None, args: list[Node], problems: Problems) -> Node | None:
    """The nodes a call stands for; None if it is a call."""
    if target is None:
        return _has(position, args, problems) if name == "has" and len(args) == 1 else None
    if isinstance(target, Ident) and target.name == "cel" and name == "bind" and len(args) == 3:
        variable = _variable(args[0], problems, "cel.bind() variable names must be simple identifiers")
        return _bind(position, variable, args[1], args[2])
    made = _MACROS.get((name, len(args)))
    return made(position, target, args, problems) if made else None


def _has(position: int, args: list[Node], problems: Problems) -> Node | None:
    select = args[0]
    if isinstance(select, Select) and not select.test_only:
        return Select(position, select.operand, select.field, test_only=True)
    problems.add(position, "invalid argument to has() macro")
    return args[0]


def _variable(node: Node, problems: Problems, told: str = "argument must be a simple name") -> str:
    if isinstance(node, Ident) and not node.name.startswith("."):
        return node.name
    problems.add(node.position, told)
    return "_"


def _bind(position: int, variable: str, value: Node, inside: Node) -> Node:
    empty = ListNode(position, [])
    false, step = Literal(position, False), Ident(position, variable)
    return Comprehension(position, UNUSED, "", empty, variable, value, false, step, inside)


class _Fold:
    """Builds comprehensions over one or two variables, all at one position."""

    def __init__(self, position: int, target: Node, variables: list[Node], problems: Problems) -> None:
        self._position, self._target = position, target
        names = [_variable(node, problems) for node in variables]
        self._names = (names[0], names[1] if len(names) > 1 else "")
        if len(set(names)) < len(names):
            problems.add(variables[1].position, f"duplicate variable name: {names[1]}")
        for node, name in zip(variables, names, strict=True):
            if name in (ACCUMULATOR, "__result__"):
                problems.add(node.position, "iteration variable overwrites accumulator variable")

    def accumulated(self) -> Node:
        return Ident(self._position, ACCUMULATOR)

    def call(self, function: str, *args: Node) -> Node:
        return Call(self._position, function, None, list(args))

    def literal(self, value: object) -> Node:
        return Literal(self._position, value)

    def made(self, init: Node, condition: Node, step: Node, result: Node | None = None) -> Node:
        first, second = self._names
        result = result or self.accumulated()
        return Comprehension(self._position, first, second, self._target, ACCUMULATOR, init, condition, step, result)


def _all(count: int) -> Expand:
    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        fold = _Fold(position, target, args[:count], problems)
        condition = fold.call("@not_strictly_false", fold.accumulated())
        return fold.made(fold.literal(True), condition, fold.call("_&&_", fold.accumulated(), args[count]))

    return make


def _exists(count: int) -> Expand:
    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        fold = _Fold(position, target, args[:count], problems)
        condition = fold.call("@not_strictly_false", fold.call("!_", fold.accumulated()))
        return fold.made(fold.literal(False), condition, fold.call("_||_", fold.accumulated(), args[count]))

    return make


def _exists_one(count: int) -> Expand:
    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        fold = _Fold(position, target, args[:count], problems)
        more = fold.call("_+_", fold.accumulated(), fold.literal(1))
        step = fold.call("_?_:_", args[count], more, fold.accumulated())
        result = fold.call("_==_", fold.accumulated(), fold.literal(1))
        return fold.made(fold.literal(0), fold.literal(True), step, result)

    return make


def _listing(count: int, *, filtered: bool = False, itself: bool = False) -> Expand:
    """map() and transformList(), with a condition if `filtered`; filter() if `itself`."""

    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        fold = _Fold(position, target, args[:count], problems)
        value = args[0] if itself else args[-1]
        step = fold.call("_+_", fold.accumulated(), ListNode(position, [value]))
        if filtered:
            step = fold.call("_?_:_", args[count], step, fold.accumulated())
        return fold.made(ListNode(position, []), fold.literal(True), step)

    return make


def _mapping(*, filtered: bool, entry: bool) -> Expand:
    """transformMap() and, if `entry`, transformMapEntry()."""

    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        fold = _Fold(position, target, args[:2], problems)
        if entry:
            step = fold.call("cel.@mapInsert", fold.accumulated(), args[-1])
        else:
            key = Ident(args[0].position, _variable(args[0], problems))
            step = fold.call("cel.@mapInsert", fold.accumulated(), key, args[-1])
        if filtered:
            step = fold.call("_?_:_", args[2], step, fold.accumulated())
        nothing: list[Entry] = []
        return fold.made(MapNode(position, nothing), fold.literal(True), step)

    return make


def _opt_map(*, flat: bool) -> Expand:
    def make(position: int, target: Node, args: list[Node], problems: Problems) -> Node:
        variable = _variable(args[0], problems, "optMap() variable name must be a simple identifier")
        inside = _bind(position, variable, Call(position, "value", target, []), args[1])
        some = inside if flat else Call(position, "optional.of", None, [inside])
        none = Call(position, "optional.none", None, [])
        return Call(position, "_?_:_", None, [Call(position, "hasValue", target, []), some, none])

    return make


def _sort_by(position: int, target: Node, args: list[Node], problems: Problems) -> Node | None:
    name = "@__sortBy_input__"
    items = Ident(target.position, name)
    keys = _listing(1)(position, Ident(target.position, name), args, problems)
    if keys is None:
        return None
    return _bind(position, name, target, Call(position, "@sortByAssociatedKeys", items, [keys]))


_MACROS: Final[dict[tuple[str, int], Expand]] = {
    ("all", 2): _all(1),
    ("all", 3): _all(2),
    ("exists", 2): _exists(1),
    ("exists", 3): _exists(2),
    ("exists_one", 2): _exists_one(1),
    ("existsOne", 2): _exists_one(1),
    ("existsOne", 3): _exists_one(2),
    ("map", 2): _listing(1),
    ("map", 3): _listing(1, filtered=True),
    ("filter", 2): _listing(1, filtered=True, itself=True),
    ("transformList", 3): _listing(2),
    ("transformList", 4): _listing(2, filtered=True),
    ("transformMap", 3): _mapping(filtered=False, entry=False),
    ("transformMap", 4): _mapping(filtered=True, entry=False),
    ("transformMapEntry", 3): _mapping(filtered=False, entry=True),
    ("transformMapEntry", 4): _mapping(filtered=True, entry=True),
    ("optMap", 2): _opt_map(flat=False),
    ("optFlatMap", 2): _opt_map(flat=True),
    ("sortBy", 2): _sort_by,
}
