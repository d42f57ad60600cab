"""CEL expressions of admission: what they can name, compiled once, evaluated over an operation.

Source: k8s.io/apiserver/pkg/admission/plugin/cel/compile.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from machinery.cel import types
from machinery.cel.declarations import ANYTHING, Declared, Field, Scope, objects_in
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CelError, CompileError, EvaluationError
from machinery.cel.types import Type

ExpressionError = CelError
WEBHOOK_VARIABLES: Final = frozenset(("object", "oldObject", "request", "authorizer"))
POLICY_VARIABLES: Final = WEBHOOK_VARIABLES | {"params", "namespaceObject", "variables"}


def _text() -> Declared:
    return Declared(types.STRING)


def _object(name: str, /, **fields: Declared) -> Declared:
    return Declared(Type("object", name), fields={key: Field(key, inner) for key, inner in fields.items()})


def _request() -> Declared:
    kind = _object("kubernetes.GroupVersionKind", group=_text(), version=_text(), kind=_text())
    resource = _object("kubernetes.GroupVersionResource", group=_text(), version=_text(), resource=_text())
    texts, dyn = types.list_of(types.STRING), types.DYN
    user = _object(
        "kubernetes.UserInfo",
        username=_text(),
        uid=_text(),
        groups=Declared(texts),
        extra=Declared(types.map_of(types.STRING, texts)),
    )
    words = ("subResource", "requestSubResource", "name", "namespace", "operation")
    return _object(
        "kubernetes.AdmissionRequest",
        kind=kind,
        resource=resource,
        requestKind=kind,
        requestResource=resource,
        userInfo=user,
        dryRun=Declared(types.BOOL),
        options=Declared(dyn),
        **{word: _text() for word in words},
    )


def _namespace() -> Declared:
    strings = types.map_of(types.STRING, types.STRING)
    when = ANYTHING
    metadata = _object(
        "kubernetes.NamespaceMetadata",
        name=_text(),
        generateName=_text(),
        namespace=_text(),
        labels=Declared(strings),
        annotations=Declared(strings),
        UID=_text(),
        creationTimestamp=when,
        deletionGracePeriodSeconds=Declared(types.INT),
        deletionTimestamp=when,
        generation=Declared(types.INT),
        resourceVersion=_text(),
        finalizers=Declared(types.list_of(types.STRING)),
    )
    spec = _object("kubernetes.NamespaceSpec", finalizers=Declared(types.list_of(types.STRING)))
    status = _object("kubernetes.NamespaceStatus", phase=_text())
    return _object("kubernetes.Namespace", metadata=metadata, spec=spec, status=status)


@lru_cache(maxsize=512)
def scope(names: frozenset[str], variables: tuple[tuple[str, Type], ...] = (), *, literals: bool = False) -> Scope:
    """What expressions can name: these variables, and `variables.NAME` of these types."""
    declared: dict[str, Declared] = dict.fromkeys(sorted(names), ANYTHING)
    if "request" in names:
        declared["request"] = _request()
    if "namespaceObject" in names:
        declared["namespaceObject"] = _namespace()
    if "authorizer" in names:
        declared["authorizer"] = Declared(Type("opaque", "kubernetes.authorization.Authorizer"))
        declared["authorizer.requestResource"] = Declared(Type("opaque", "kubernetes.authorization.ResourceCheck"))
    if "variables" in names:
        inner = {name: Field(name, Declared(kind)) for name, kind in variables}
        declared["variables"] = Declared(Type("object", "kubernetes.variables"), fields=inner)
    return Scope(declared, objects_in(declared.values()), literals)


@lru_cache(maxsize=4096)
def compile_in(text: str, where: Scope) -> Program:
    """Compile. Raises CompileError, whose message begins as upstream's."""
    try:
        return compile_program(text, where)
    except CompileError as exc:
        raise CompileError(f"{exc.title}: {exc}") from None


@dataclass(frozen=True)
class Expressions:
    """The expressions of one policy or webhook: its variables, and what the others can name."""

    variables: tuple[tuple[str, str], ...] = ()
    """(name, expression), in their order: each can name those before it."""
    names: frozenset[str] = POLICY_VARIABLES
    literals: bool = False

    def scope(self, count: int | None = None) -> Scope:
        """What an expression can name that may use the first `count` variables (None: all). Raises CompileError."""
        given = self.variables[:count]
        kinds = tuple((name, compile_in(text, self.scope(i)).result) for i, (name, text) in enumerate(given))
        return scope(self.names, kinds, literals=self.literals)

    def program(self, text: str) -> Program:
        """A compiled expression. Raises CompileError."""
        return compile_in(text, self.scope())


class _Variables(Mapping[str, Any]):
    """`variables`: each is computed when first asked for."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._evaluation.variable(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._evaluation.expressions.variables])

    def __len__(self) -> int:
        return len(self._evaluation.expressions.variables)


@dataclass(slots=True)
class Evaluation:
    """The values that the expressions of one policy or webhook see of one operation."""

    expressions: Expressions
    values: Mapping[str, Any]
    _variables: _Variables | None = field(default=None)
    budget: list[int] = field(default_factory=lambda: [10_000_000])
    """What all of them together may cost."""

    def value(self, text: str) -> Any:
        """The value of an expression. Raises ExpressionError."""
        return self._run(self.expressions.program(text))

    def variable(self, name: str) -> Any:
        """The value of a variable. Raises ExpressionError."""
        for i, (known, text) in enumerate(self.expressions.variables):
            if known == name:
                return self._run(compile_in(text, self.expressions.scope(i)))
        raise EvaluationError(f"no such key: {name}")

    def _run(self, program: Program) -> Any:
        if self._variables is None:
            self._variables = _Variables(self)
        return program.evaluate({**self.values, "variables": self._variables}, self.budget)
