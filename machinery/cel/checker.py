"""Whether the types of an expression fit, in cel-go's words.

Source: cel-go checker/checker.go, checker/errors.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from machinery.api.structural import regex
from machinery.cel import types
from machinery.cel.ast import (
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Problems,
    Select,
    StructNode,
    children,
)
from machinery.cel.declarations import Functions, Overload, Scope
from machinery.cel.errors import CompileError, EvaluationError, InstantiationError
from machinery.cel.library.times import parse_duration, parse_timestamp
from machinery.cel.types import BOOL, DYN, INT, STRING, Type, list_of, map_of, optional_of
from machinery.cel.values import Duration, Timestamp, UInt

TYPE_NAMES: Final = {
    "bool": types.BOOL, "int": types.INT, "uint": types.UINT, "double": types.DOUBLE, "string": types.STRING,
    "bytes": types.BYTES, "null_type": types.NULL, "list": list_of(DYN), "map": map_of(DYN, DYN),
    "type": Type("type"), "dyn": DYN, "google.protobuf.Timestamp": types.TIMESTAMP,
    "google.protobuf.Duration": types.DURATION, "optional_type": optional_of(DYN), "net.IP": Type("opaque", "net.IP"),
    "net.CIDR": Type("opaque", "net.CIDR"), "kubernetes.Quantity": Type("opaque", "kubernetes.Quantity"),
    "kubernetes.URL": Type("opaque", "kubernetes.URL"), "kubernetes.Semver": Type("opaque", "kubernetes.Semver"),
}  # fmt: skip
_CONSTANTS: Final[dict[type, Type]] = {
    bool: types.BOOL, int: types.INT, UInt: types.UINT, float: types.DOUBLE, str: types.STRING, bytes: types.BYTES,
    type(None): types.NULL, Timestamp: types.TIMESTAMP, Duration: types.DURATION,
}  # fmt: skip
_OBJECT: Final = re.compile(r"Object(?:\.\w+)*\Z|JSONPatch\Z")
_LITERALS: Final = {"matches": "matches", "timestamp": "timestamp", "duration": "duration"}


@dataclass(slots=True)
class Checked:
    """What is known of an expression that fits."""

    root: Node
    types: dict[Node, Type] = field(default_factory=dict)
    overloads: dict[Node, list[Overload]] = field(default_factory=dict)
    type_values: dict[Node, str] = field(default_factory=dict)
    """Names that stand for types."""
    qualified: dict[Node, str] = field(default_factory=dict)
    """Methods that are functions with a qualified name (`sets.contains`), selects that are variables with one."""
    variables: set[str] = field(default_factory=set)
    """The declared variables that it refers to."""

    @property
    def result(self) -> Type:
        """The type of the whole."""
        return self.types[self.root]


def check(root: Node, text: str, scope: Scope, functions: Functions) -> Checked:
    """Check. Raises CompileError with all that is wrong."""
    checker = _Checker(root, Problems(text), scope, functions)
    checker.check(root)
    if checker.problems.found:
        raise CompileError(str(checker.problems))
    checked = checker.checked
    checked.types = {
        node: checker.mapping.substitute(found, params_to_dyn=True) for node, found in checked.types.items()
    }
    _validate_literals(checked, checker.problems)
    if checker.problems.found:
        raise CompileError(str(checker.problems))
    return checked


class _Checker:
    def __init__(self, root: Node, problems: Problems, scope: Scope, functions: Functions) -> None:
        self.checked = Checked(root)
        self.problems = problems
        self.mapping = types.Mapping()
        self._scope = scope
        self._functions = functions
        self._locals: list[tuple[str, Type]] = []
        self._fresh = 0

    def check(self, node: Node) -> Type:
        found = self._type(node)
        self.checked.types[node] = found
        return found

    def _type(self, node: Node) -> Type:
        if isinstance(node, Literal):
            return _CONSTANTS[node.value.__class__]
        if isinstance(node, Ident):
            return self._ident(node)
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode):
            return self._map(node)
        if isinstance(node, StructNode):
            return self._struct(node)
        if isinstance(node, Comprehension):
            return self._comprehension(node)
        raise AssertionError(node)

    def _new_param(self) -> Type:
        self._fresh += 1
        return Type("param", f"_var{self._fresh}")

    # -- names -------------------------------------------------------------------------------------------------------

    def _ident(self, node: Ident) -> Type:
        name = node.name.removeprefix(".")
        for local, kind in reversed(self._locals):
            if local == name:
                return kind
        declared = self._scope.variables.get(name)
        if declared is not None:
            self.checked.variables.add(name)
            return declared.type
        if name in TYPE_NAMES:
            self.checked.type_values[node] = name
            return Type("type", "", (TYPE_NAMES[name],))
        self.problems.add(node.position, f"undeclared reference to '{node.name}' (in container '')")
        return DYN

    def _type_name(self, node: Select) -> str:
        name = _qualified(node)
        root = name.partition(".")[0]
        hidden = root in self._scope.variables or any(local == root for local, _ in self._locals)
        return name if name in TYPE_NAMES and not hidden else ""

    def _select(self, node: Select) -> Type:
        if name := self._type_name(node):
            self.checked.type_values[node] = name
            return Type("type", "", (TYPE_NAMES[name],))
        name = _qualified(node)
        if "." in name and name in self._scope.variables:
            self.checked.qualified[node] = name
            self.checked.variables.add(name)
            return self._scope.variables[name].type
        operand = self.mapping.substitute(self.check(node.operand))
        inside, optional = _unwrapped(operand)
        found = self._field(node, inside)
        if node.test_only:
            return BOOL
        return optional_of(found) if optional else found

    def _field(self, node: Node, operand: Type, name: str = "") -> Type:
        name = name or getattr(node, "field", "")
        if operand.sort == "map":
            return operand.params[1]
        if operand.sort == "object":
            fields = self._scope.objects.get(operand.name)
            if fields is None:
                return DYN
            if name not in fields:
                self.problems.add(node.position, f"undefined field '{name}'")
                return DYN
            return fields[name].declared.type
        if operand.sort == "param":
            self.mapping.assignable(DYN, operand)
            return DYN
        if operand.sort != "dyn":
            self.problems.add(node.position, f"type '{operand}' does not support field selection")
        return DYN

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Type:
        if node.function == "_?._":
            operand = self.mapping.substitute(self.check(node.args[0]))
            self.check(node.args[1])
            inside, _ = _unwrapped(operand)
            found = self._field(node, inside, node.args[1].value if isinstance(node.args[1], Literal) else "")
            self.checked.overloads[node] = [Overload("select_optional_field", node.function, False, (), DYN)]
            return optional_of(found)
        if node.target is None:
            args = [self.check(arg) for arg in node.args]
            return self._resolved(node, node.function.removeprefix("."), args, member=False)
        qualified = f"{_qualified(node.target)}.{node.function}"
        if self._functions.get(qualified):
            self.checked.qualified[node] = qualified
            args = [self.check(arg) for arg in node.args]
            return self._resolved(node, qualified, args, member=False)
        args = [self.check(node.target), *(self.check(arg) for arg in node.args)]
        return self._resolved(node, node.function, args, member=True)

    def _resolved(self, node: Call, name: str, args: list[Type], *, member: bool) -> Type:
        candidates = self._functions.get(name)
        if not candidates:
            self.problems.add(node.position, f"undeclared reference to '{name}' (in container '')")
            return DYN
        result: Type | None = None
        chosen: list[Overload] = []
        for candidate in candidates:
            if candidate.member is not member or len(candidate.params) != len(args):
                continue
            params, made = self._instantiated(candidate)
            trial = self.mapping.copy()
            if not all(trial.assignable(arg, param) for arg, param in zip(args, params, strict=True)):
                continue
            self.mapping = trial
            chosen.append(candidate)
            found = self.mapping.substitute(made)
            if result is None:
                result = found
            elif result.sort != "dyn" and result != found:
                result = DYN
        if result is None:
            shown = [str(self.mapping.substitute(arg, params_to_dyn=False)) for arg in args]
            told = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            self.problems.add(node.position, f"found no matching overload for '{name}' applied to '{told}'")
            return DYN
        self.checked.overloads[node] = chosen
        return result

    def _instantiated(self, candidate: Overload) -> tuple[list[Type], Type]:
        names = {p.name for t in (*candidate.params, candidate.result) for p in _params_in(t)}
        if not names:
            return list(candidate.params), candidate.result
        fresh = types.Mapping({name: self._new_param() for name in sorted(names)})
        return [fresh.substitute(param) for param in candidate.params], fresh.substitute(candidate.result)

    # -- literals ----------------------------------------------------------------------------------------------------

    def _element(self, node: Node, *, optional: bool) -> Type:
        kind = self.check(node)
        if not optional:
            return kind
        inside, wrapped = _unwrapped(self.mapping.substitute(kind))
        if not wrapped and inside.sort != "dyn":
            self.problems.add(node.position, f"expected type 'optional_type({inside})' but found '{inside}'")
        return inside

    def _joined(self, node: Node, before: Type | None, now: Type) -> Type:
        if before is None:
            return now
        if self.mapping.assignable(now, before):
            one, other = self.mapping.substitute(before), self.mapping.substitute(now)
            return one if types.more_general(one, other) else other
        self.problems.add(node.position, f"expected type '{before}' but found '{now}'")
        return DYN

    def _list(self, node: ListNode) -> Type:
        joined: Type | None = None
        for i, element in enumerate(node.elements):
            joined = self._joined(element, joined, self._element(element, optional=i in node.optional))
        return list_of(joined if joined is not None else self._new_param())

    def _map(self, node: MapNode) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            assert isinstance(entry.key, Node)
            key = self._joined(entry.key, key, self.check(entry.key))
            value = self._joined(entry.value, value, self._element(entry.value, optional=entry.optional))
        if key is None or value is None:
            return map_of(self._new_param(), self._new_param())
        return map_of(key, value)

    def _struct(self, node: StructNode) -> Type:
        known = self._scope.literals and _OBJECT.match(node.name)
        if not known:
            self.problems.add(node.position, f"undeclared reference to '{node.name}' (in container '')")
        for entry in node.entries:
            found = self._element(entry.value, optional=entry.optional)
            if node.name == "JSONPatch" and entry.key not in ("op", "path", "from", "value"):
                self.problems.add(entry.position, f"undefined field '{entry.key}'")
            elif node.name == "JSONPatch" and entry.key != "value" and not self.mapping.assignable(found, STRING):
                told = f"expected type of field '{entry.key}' is 'string' but provided type is '{found}'"
                self.problems.add(entry.position, told)
            elif known and found.sort == "object" and found.name != f"{node.name}.{entry.key}":
                told = f'unexpected type name "{found.name}", expected "{node.name}.{entry.key}", '
                told += "which must match field name path from root Object type"
                self.problems.add(entry.position, told)
        return Type("object", node.name) if known else DYN

    # -- comprehensions ----------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> Type:
        ranged = self.mapping.substitute(self.check(node.range))
        accumulated = self.check(node.accu_init)
        first, second = self._iterated(node, ranged)
        depth = len(self._locals)
        self._locals.append((node.accu_var, accumulated))
        self._locals.append((node.iter_var, first))
        if node.iter_var2:
            self._locals.append((node.iter_var2, second))
        self._expect(node.condition, BOOL)
        self._expect(node.step, accumulated)
        del self._locals[depth + 1 :]
        result = self.check(node.result)
        del self._locals[depth:]
        return self.mapping.substitute(result)

    def _iterated(self, node: Comprehension, ranged: Type) -> tuple[Type, Type]:
        if ranged.sort == "list":
            return (INT, ranged.params[0]) if node.iter_var2 else (ranged.params[0], DYN)
        if ranged.sort == "map":
            return ranged.params[0], ranged.params[1]
        if ranged.sort not in ("dyn", "param"):
            told = f"expression of type '{ranged}' cannot be range of a comprehension (must be list, map, or dynamic)"
            self.problems.add(node.range.position, told)
        elif ranged.sort == "param":
            self.mapping.assignable(DYN, ranged)
        return DYN, DYN

    def _expect(self, node: Node, wanted: Type) -> None:
        found = self.check(node)
        if not self.mapping.assignable(found, wanted):
            self.problems.add(node.position, f"expected type '{wanted}' but found '{found}'")


def _unwrapped(kind: Type) -> tuple[Type, bool]:
    if kind.sort == "opaque" and kind.name == "optional_type":
        return kind.params[0], True
    return kind, False


def _params_in(kind: Type) -> list[Type]:
    return [kind] if kind.sort == "param" else [p for inner in kind.params for p in _params_in(inner)]


def _qualified(node: Node | None) -> str:
    """The name that a chain of selects spells; "" if it is none."""
    if isinstance(node, Ident):
        return node.name.removeprefix(".")
    if isinstance(node, Select) and not node.test_only:
        before = _qualified(node.operand)
        return f"{before}.{node.field}" if before else ""
    return ""


def _validate_literals(checked: Checked, problems: Problems) -> None:
    """Constants that can't be what they stand for. Source: cel-go cel/validator.go."""
    todo: list[Node] = [checked.root]
    while todo:
        node = todo.pop()
        todo += children(node)
        if not isinstance(node, Call) or node.function not in _LITERALS or not node.args:
            continue
        last = node.args[-1]
        if isinstance(last, Literal) and isinstance(last.value, str) and not _reads(node.function, last.value):
            problems.add(last.position, f"invalid {node.function} argument")


def check_patterns(root: Node) -> None:
    """Raise InstantiationError for constant patterns of find() and findAll() that can't be read."""
    todo = [root]
    while todo:
        node = todo.pop()
        todo += children(node)
        if isinstance(node, Call) and node.function in ("find", "findAll") and node.target is not None and node.args:
            first = node.args[0]
            if isinstance(first, Literal) and isinstance(first.value, str):
                try:
                    regex.compile_go(first.value)
                except regex.PatternError as exc:
                    raise InstantiationError(str(exc)) from None


def _reads(function: str, text: Any) -> bool:
    try:
        if function == "matches":
            regex.compile_go(text)
        elif function == "timestamp":
            parse_timestamp(text)
        else:
            parse_duration(text)
    except (EvaluationError, regex.PatternError):
        return False
    return True
