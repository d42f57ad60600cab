"""CEL rules of a structural schema (x-kubernetes-validations): compiled, and kept.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/{compilation,validation}.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.cel.declarations import Declared, Scope, objects_in
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import BudgetExceeded, CelError, CompileError
from machinery.cel.schema import MOST_BYTES, declared_of
from machinery.cel.types import optional_of
from machinery.cel.values import NONE, Optional

RULES: Final = "x-kubernetes-validations"
WHOLE_BUDGET: Final = 10_000_000
"""What all rules together may cost for one object. Source: pkg/apis/cel, RuntimeCELCostBudget."""
_LONGEST_MESSAGE: Final = 5 * 1024
_MISSING: Final = object()


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
    return [_compiled(rule, declared) for rule in given]


_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"


def scope_for(declared: Declared, *, optional: bool = False) -> Scope:
    """What rules on a value of this type can name."""
    old = declared
    if optional:
        old = Declared(optional_of(declared.type), declared.max_elements, declared.min_size)
    return Scope({"self": declared, "oldSelf": old}, objects_in([declared]))


def _compiled(given: Mapping[str, Any], declared: Declared) -> Rule:
    scope = scope_for(declared, optional=bool(given.get("optionalOldSelf")))
    cardinality = MOST_BYTES // (declared.min_size + 1)
    text = given.get("rule") or ""
    if not text.strip():
        return Rule(given, cardinality=cardinality)
    program, error = _program(text, scope, "bool", "cel expression must evaluate to a bool")
    message, message_error = None, ""
    if (expression := given.get("messageExpression") or "").strip() and not error:
        message, message_error = _program(expression, scope, "string", "messageExpression must evaluate to a string")
        if message_error.startswith("compilation failed"):
            message_error = f"messageExpression {message_error}"
    return Rule(given, program, error, message, message_error, cardinality)


def _program(text: str, scope: Scope, wanted: str, told: str) -> tuple[Program | None, str]:
    try:
        program = compile_program(text, scope)
    except CompileError as exc:
        return None, f"compilation failed: {exc}"
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
        if not (resource and name == "metadata"):
            below = rule_tree(inner, resource=bool(inner.get("x-kubernetes-embedded-resource")))
            if not below.empty:
                made.properties[name] = below
    element = schema.get("items") if schema.get("type") == "array" else schema.get("additionalProperties")
    if isinstance(element, Mapping):
        below = rule_tree(element, resource=bool(element.get("x-kubernetes-embedded-resource")))
        made.element = None if below.empty else below
    return made


def validate(tree: RuleTree, obj: Any, old: Any = None) -> list[FieldError]:
    """The errors of an object; `old` is the object before an update."""
    run = _Run()
    run.walk(tree, obj, _MISSING if old is None else old, "", correlated=old is not None)
    return run.errors


@dataclass
class _Run:
    budget: list[int] = field(default_factory=lambda: [WHOLE_BUDGET])
    errors: list[FieldError] = field(default_factory=list)
    exhausted: bool = False

    def walk(self, tree: RuleTree, value: Any, old: Any, path: str, *, correlated: bool) -> None:
        if value is None or self.exhausted:
            return
        unchanged = old is not _MISSING and bool(old == value)
        for rule in tree.rules:
            self._rule(rule, tree, value, old, path, unchanged=unchanged)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, inner in value.items():
                below = tree.properties.get(name) or (tree.element if "items" not in tree.schema else None)
                if below is not None:
                    where = _joined(path, name) if name in tree.properties else f"{path}[{name}]"
                    self.walk(below, inner, before.get(name, _MISSING), where, correlated=correlated)
        elif isinstance(value, list) and tree.element is not None:
            known = _by_key(tree.schema, old)
            for i, item in enumerate(value):
                before_item = known.get(_key(tree.schema, item), _MISSING)
                self.walk(tree.element, item, before_item, f"{path}[{i}]", correlated=correlated)

    def _rule(self, rule: Rule, tree: RuleTree, value: Any, old: Any, path: str, *, unchanged: bool) -> None:
        assert rule.program is not None
        optional = bool(rule.given.get("optionalOldSelf"))
        if self.exhausted or (rule.transition and old is _MISSING and not optional):
            return
        if unchanged and not rule.transition:
            return  # ratcheting: what was stored and did not change stays
        error = self._error(rule, tree, value, old, path, optional=optional)
        if error is not None:
            self.errors.append(error)

    def _error(
        self, rule: Rule, tree: RuleTree, value: Any, old: Any, path: str, *, optional: bool
    ) -> FieldError | None:
        assert rule.program is not None
        convert = tree.convert or (lambda given: given)
        said = (rule.given.get("message") or "").strip()
        told = said or f"failed rule: {(rule.given.get('rule') or '').strip()}"
        sort = tree.schema.get("type") or ""
        before = min(self.budget[0], 1_000_000)
        allowance = [before]
        try:
            variables = {"self": convert(value)}
            if old is not _MISSING and old is not None:
                variables["oldSelf"] = Optional(convert(old)) if optional else convert(old)
            elif optional:
                variables["oldSelf"] = NONE
            holds = rule.program.evaluate(variables, allowance)
        except BudgetExceeded:
            self.budget[0] -= before - max(allowance[0], 0)
            if self.budget[0] <= 0:
                self.exhausted = True
                text = "validation failed due to running out of cost budget, no further validation rules will be run"
                return fielderror.invalid(path or "<nil>", sort, text)
            return fielderror.invalid(path or "<nil>", sort, f"call cost exceeds limit for rule: {told}")
        except CelError as exc:
            return fielderror.invalid(path or "<nil>", sort, f"{exc} evaluating rule: {told}")
        self.budget[0] -= before - allowance[0]
        if holds is True:
            return None
        return _failure(rule, sort, _message(rule, variables, told), path)


def _message(rule: Rule, variables: Mapping[str, Any], told: str) -> str:
    if rule.message is None:
        return told
    try:
        said = rule.message.evaluate(variables)
    except CelError:
        return told
    usable = isinstance(said, str) and said.strip() and "\n" not in said.strip() and len(said) <= _LONGEST_MESSAGE
    return said.strip() if usable else told


def _failure(rule: Rule, sort: str, message: str, path: str) -> FieldError:
    where = (
        f"{path}{rule.given.get('fieldPath') or ''}" if path else (rule.given.get("fieldPath") or "").removeprefix(".")
    )
    where = where or "<nil>"
    reason = rule.given.get("reason") or "FieldValueInvalid"
    if reason == "FieldValueRequired":
        return fielderror.required(where, message)
    if reason == "FieldValueForbidden":
        return fielderror.forbidden(where, message)
    if reason == "FieldValueDuplicate":
        return FieldError("FieldValueDuplicate", where, f"Duplicate value: {fielderror.show(sort)}: {message}")
    return fielderror.invalid(where, sort, message)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _key(schema: Mapping[str, Any], item: Any) -> str:
    """What identifies an item of a list across an update; "" if nothing does."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(item, dict):
        return ""
    return repr([item.get(name) for name in schema.get("x-kubernetes-list-map-keys") or ()])


def _by_key(schema: Mapping[str, Any], old: Any) -> dict[str, Any]:
    if not isinstance(old, list):
        return {}
    return {key: item for item in old if (key := _key(schema, item))}
