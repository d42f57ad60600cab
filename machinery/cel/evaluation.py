"""From a checked expression to closures: each takes the variables and gives a value.

`&&`, `||` and the macros made of them hold errors back as CEL wants it: an error counts only if the other side does not
decide. What comprehensions and concatenations do is charged to a budget, so that no expression runs for long.

Source: cel-spec, langdef.md "Evaluation"; cel-go interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from machinery.cel.ast import (
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
    children,
)
from machinery.cel.checker import Checked
from machinery.cel.closures import BUDGET, OPERATORS, Closure, Env
from machinery.cel.declarations import Overload, Scope
from machinery.cel.errors import BudgetExceeded, EvaluationError
from machinery.cel.types import Type
from machinery.cel.values import NONE, Duration, Optional, Timestamp, TypeValue, UInt, type_name

_MISSING: Final = object()


def compiled(checked: Checked, scope: Scope) -> Closure:
    """The expression as a function of its variables (and `BUDGET`, a list of one number that is counted down)."""
    return _Compiler(checked, scope).node(checked.root)


class _Compiler:
    def __init__(self, checked: Checked, scope: Scope) -> None:
        self._checked = checked
        self._scope = scope

    def node(self, node: Node) -> Closure:
        if node in self._checked.type_values:
            kind = TypeValue(self._checked.type_values[node])
            return lambda env: kind
        if isinstance(node, Literal):
            value = node.value
            return lambda env: value
        if isinstance(node, Ident):
            return _ident(node.name.removeprefix("."))
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode | StructNode):
            return self._map(node)
        if isinstance(node, Comprehension):
            return self._comprehension(node)
        raise AssertionError(node)

    def _key(self, operand: Node, field: str) -> str:
        """What a field is called in JSON."""
        kind = self._checked.types[operand]
        if kind.sort == "opaque" and kind.name == "optional_type":
            kind = kind.params[0]
        if kind.sort == "object":
            known = self._scope.objects.get(kind.name, {}).get(field)
            return known.key if known is not None else field
        return field

    def _select(self, node: Select) -> Closure:
        if node in self._checked.qualified:
            return _ident(self._checked.qualified[node])
        operand, key, field = self.node(node.operand), self._key(node.operand, node.field), node.field
        if node.test_only:
            return lambda env: _has(operand(env), key)

        def select(env: Env) -> Any:
            holder = operand(env)
            if holder.__class__ is dict:
                found = holder.get(key, _MISSING)
                if found is not _MISSING:
                    return found
                raise EvaluationError(f"no such key: {field}")
            return _selected(holder, key, field)

        return select

    def _call(self, node: Call) -> Closure:
        special = OPERATORS.get(node.function) if node.target is None else None
        if node.function == "_?._":
            operand = self.node(node.args[0])
            key = self._key(node.args[0], str(getattr(node.args[1], "value", "")))
            return lambda env: _select_optional(operand(env), key)
        qualified = node in self._checked.qualified
        holders = [node.target] if node.target is not None and not qualified else []
        args = [self.node(arg) for arg in (*holders, *node.args)]
        if special is not None:
            return special(args)
        return _dispatch(self._checked.overloads[node], args, self._known(node, [*holders, *node.args]))

    def _known(self, node: Call, args: list[Node]) -> bool:
        """Whether the types of all arguments are known, so that nothing needs to be looked at when it runs."""
        return all(_definite(self._checked.types[arg]) for arg in args)

    def _list(self, node: ListNode) -> Closure:
        elements = [self.node(element) for element in node.elements]
        if not node.optional:
            return lambda env: [element(env) for element in elements]
        marked = [(i in node.optional, element) for i, element in enumerate(elements)]

        def build(env: Env) -> list[Any]:
            made = []
            for optional, element in marked:
                value = element(env)
                if not optional:
                    made.append(value)
                elif value.present:
                    made.append(value.value)
            return made

        return build

    def _map(self, node: MapNode | StructNode) -> Closure:
        entries = [
            (_constant(e.key) if isinstance(e.key, str) else self.node(e.key), self.node(e.value), e.optional)
            for e in node.entries
        ]

        def build(env: Env) -> dict[Any, Any]:
            made: dict[Any, Any] = {}
            for key, value, optional in entries:
                name, found = key(env), value(env)
                if isinstance(name, list | Mapping):
                    raise EvaluationError("unsupported key type")
                if optional:
                    if not found.present:
                        continue
                    found = found.value
                made[name] = found
            return made

        return build

    def _comprehension(self, node: Comprehension) -> Closure:
        ranged, init = self.node(node.range), self.node(node.accu_init)
        step, result = self.node(node.step), self.node(node.result)
        accu, first, second = node.accu_var, node.iter_var, node.iter_var2
        if first == "#unused":
            return _bound(accu, init, result)
        stop = _stops(node)
        price = 1 + _size(node.step)

        def fold(env: Env) -> Any:
            items = _items(ranged(env), both=bool(second))
            inner = dict(env)
            inner[accu] = init(env)
            budget = env[BUDGET]
            held: EvaluationError | None = None
            for item in items:
                budget[0] -= price
                if budget[0] < 0:
                    raise BudgetExceeded("operation cancelled: actual cost limit exceeded")
                if second:
                    inner[first], inner[second] = item
                else:
                    inner[first] = item
                if stop is None:
                    inner[accu] = step(inner)
                    continue
                try:
                    inner[accu] = step(inner)
                except BudgetExceeded:
                    raise
                except EvaluationError as exc:
                    held = held or exc  # all() and exists(): a later item may still decide
                    continue
                if inner[accu] is stop:
                    return result(inner)
            if held is not None:
                raise held
            return result(inner)

        return fold


def _stops(node: Comprehension) -> bool | None:
    """The accumulated value at which all() or exists() need not look further; None for other macros."""
    condition = node.condition
    if isinstance(condition, Call) and condition.function == "@not_strictly_false":
        return isinstance(condition.args[0], Call)
    return None


def _size(node: Node) -> int:
    return 1 + sum(_size(child) for child in children(node) if not isinstance(child, Comprehension))


def _bound(name: str, value: Closure, inside: Closure) -> Closure:
    return lambda env: inside({**env, name: value(env)})


def _constant(value: Any) -> Closure:
    return lambda env: value


def _ident(name: str) -> Closure:
    def ident(env: Env) -> Any:
        try:
            return env[name]
        except KeyError:
            raise EvaluationError(f"no such attribute(s): {name}") from None

    return ident


def _items(value: Any, *, both: bool) -> Any:
    if isinstance(value, list):
        return list(enumerate(value)) if both else value
    if isinstance(value, Mapping):
        return list(value.items()) if both else list(value)
    raise EvaluationError(f"got '{type_name(value)}', expected iterable type")


def _selected(holder: Any, key: str, field: str) -> Any:
    if isinstance(holder, Mapping):
        try:
            return holder[key]
        except KeyError:
            raise EvaluationError(f"no such key: {field}") from None
    if isinstance(holder, Optional):
        return _select_optional(holder, key)
    raise EvaluationError("no such overload")


def _has(holder: Any, key: str) -> bool:
    if isinstance(holder, Mapping):
        return key in holder
    if isinstance(holder, Optional):
        return holder.present and _has(holder.value, key)
    raise EvaluationError("no such overload")


def _select_optional(holder: Any, key: str) -> Optional:
    if isinstance(holder, Optional):
        if not holder.present:
            return NONE
        holder = holder.value
    if isinstance(holder, Mapping):
        return Optional(holder[key]) if key in holder else NONE
    raise EvaluationError("no such overload")


# -- functions -------------------------------------------------------------------------------------------------------

_CLASSES: Final[dict[str, Any]] = {
    "null": type(None), "string": str, "bytes": bytes, "timestamp": Timestamp, "duration": Duration, "list": list,
    "map": Mapping, "type": TypeValue, "object": Mapping,
}  # fmt: skip


def _fits(value: Any, kind: Type) -> bool:
    if kind.sort in ("dyn", "param"):
        return True
    if kind.sort == "bool":
        return value is True or value is False
    if kind.sort in ("int", "uint", "double"):
        return value.__class__ is {"int": int, "uint": UInt, "double": float}[kind.sort]
    if kind.sort == "opaque":
        return type_name(value) == kind.name
    return isinstance(value, _CLASSES[kind.sort])


def _definite(kind: Type) -> bool:
    return kind.sort not in ("dyn", "param", "null") and all(_definite(inner) for inner in kind.params)


def _dispatch(overloads: list[Overload], args: list[Closure], known: bool) -> Closure:
    if known and len(overloads) == 1:
        implementation = overloads[0].implementation
        assert implementation is not None, overloads[0].id
        if len(args) == 1:
            only = args[0]
            return lambda env: implementation(only(env))
        return lambda env: implementation(*[arg(env) for arg in args])

    def choose(env: Env) -> Any:
        values = [arg(env) for arg in args]
        for each in overloads:
            if all(_fits(value, kind) for value, kind in zip(values, each.params, strict=True)):
                assert each.implementation is not None, each.id
                return each.implementation(*values)
        raise EvaluationError("no such overload")

    return choose
