"""CEL rules of a structural schema (x-kubernetes-validations), compiled.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/compilation.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from machinery.api.structural import fieldpath
from machinery.cel.declarations import Declared, Scope, objects_in
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CompileError
from machinery.cel.schema import MOST_BYTES, declared_of
from machinery.cel.types import optional_of

RULES: Final = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One rule; `error` says why it can't be compiled, `message_error` the same of its messageExpression."""

    given: Mapping[str, Any]
    program: Program | None = None
    error: str = ""
    message: Program | None = None
    message_error: str = ""
    cardinality: int = 1
    """How often a value of this sort fits into one request."""
    field_path: str = ""
    """Which field below is told to be wrong."""

    @property
    def transition(self) -> bool:
        """Whether it compares with what was before."""
        return self.program is not None and "oldSelf" in self.program.variables


def compile_rules(schema: Mapping[str, Any], *, resource: bool = False) -> list[Rule]:
    """The rules that stand at this level of a schema."""
    given = schema.get(RULES) or []
    if not given:
        return []
    declared = declared_of(schema, "selfType", resource=resource)
    if declared is None:
        told = (
            f"rule declared on schema that does not support validation rules type: '{schema.get('type') or ''}' "
            f"x-kubernetes-preserve-unknown-fields: '{str(bool(schema.get(_PRESERVE))).lower()}'"
        )
        return [Rule(rule, error=told) for rule in given]
    return [_compiled(rule, declared, schema) for rule in given]


_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"


def scope_for(declared: Declared, *, optional: bool = False) -> Scope:
    """What rules on a value of this type can name."""
    old = declared
    if optional:
        old = Declared(optional_of(declared.type), declared.max_elements, declared.min_size)
    return Scope({"self": declared, "oldSelf": old}, objects_in([declared]))


def _compiled(given: Mapping[str, Any], declared: Declared, schema: Mapping[str, Any]) -> Rule:
    scope = scope_for(declared, optional=bool(given.get("optionalOldSelf")))
    cardinality = MOST_BYTES // (declared.min_size + 1)
    text = given.get("rule") or ""
    if not text.strip():
        return Rule(given, cardinality=cardinality)
    program, error = _program(text, scope, "bool", "cel expression must evaluate to a bool")
    message, message_error = None, ""
    if (expression := given.get("messageExpression") or "").strip() and not error:
        message, message_error = _program(expression, scope, "string", "messageExpression must evaluate to a string")
        if message_error.startswith(CompileError.title):
            message_error = f"messageExpression {message_error}"
    return Rule(given, program, error, message, message_error, cardinality, _field_path(given, schema))


def _field_path(given: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    try:
        return fieldpath.resolve(given.get("fieldPath") or "", schema).path
    except ValueError:
        return ""  # the definition's own validation refuses it


def _program(text: str, scope: Scope, wanted: str, told: str) -> tuple[Program | None, str]:
    try:
        program = compile_program(text, scope)
    except CompileError as exc:
        return None, f"{exc.title}: {exc}"
    if program.result.sort not in (wanted, "dyn") or program.result.sort == "dyn":
        return None, told
    return program, ""


@dataclass
class RuleTree:
    """The rules of a schema and of all below it, with how to get from a value to the values below."""

    schema: Mapping[str, Any]
    rules: list[Rule]
    convert: Any = None
    properties: dict[str, RuleTree] = field(default_factory=dict)
    element: RuleTree | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no rule in it."""
        return not self.rules and not self.properties and self.element is None


def rule_tree(schema: Mapping[str, Any], *, resource: bool = False) -> RuleTree:
    """The tree of a schema; parts without rules are left out."""
    rules = [rule for rule in compile_rules(schema, resource=resource) if rule.program is not None]
    declared = declared_of(schema, "selfType", resource=resource) if rules else None
    made = RuleTree(schema, rules, declared.convert if declared is not None else None)
    for name, inner in (schema.get("properties") or {}).items():
        below = rule_tree(inner, resource=bool(inner.get("x-kubernetes-embedded-resource")))
        if not below.empty:
            made.properties[name] = below
    element = schema.get("items") if schema.get("type") == "array" else schema.get("additionalProperties")
    if isinstance(element, Mapping):
        below = rule_tree(element, resource=bool(element.get("x-kubernetes-embedded-resource")))
        made.element = None if below.empty else below
    return made
