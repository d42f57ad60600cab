"""Running the CEL rules of a structural schema on an object.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import listtype
from machinery.api.structural.listtype import MISSING
from machinery.api.structural.rules import Rule, RuleTree
from machinery.cel.environment import PER_CALL_BUDGET, Program
from machinery.cel.errors import BudgetExceeded, CelError
from machinery.cel.values import NONE, Optional

WHOLE_BUDGET: Final = 10_000_000
"""What all rules together may cost for one object. Source: pkg/apis/cel, RuntimeCELCostBudget."""
_LONGEST_MESSAGE: Final = 5 * 1024
_NO_MORE: Final = "no further validation rules will be run"
_OUT_OF_BUDGET: Final = f"validation failed due to running out of cost budget, {_NO_MORE}"


def validate(tree: RuleTree, obj: Any, old: Any = None) -> list[FieldError]:
    """The errors of an object; `old` is the object before an update: what is wrong in a part that did not change is
    borne, and told as a warning only."""
    run = _Run()
    tie = _Tie(obj, old, root=True) if old is not None else _UNTIED
    run.walk(tree, _Place(obj, "", MISSING if old is None else old, tie))
    return run.errors


def validate_default(tree: RuleTree, default: Any, path: str) -> list[FieldError]:
    """The errors of a default, which is its own old value."""
    run = _Run()
    run.walk(tree, _Place(default, path, default, _UNTIED))
    return run.errors


@dataclass(frozen=True)
class _Tie:
    """A value and what it was before an update, to tell whether it has changed."""

    new: Any = None
    old: Any = MISSING
    root: bool = False

    @property
    def unchanged(self) -> bool:
        return self.old is not MISSING and bool(self.new == self.old)

    def below(self, new: Any, old: Any, name: str = "") -> _Tie:
        """Of a part; where nothing is known of it, whether the whole has changed decides."""
        if self.root and name in ("apiVersion", "kind"):
            return _UNTIED
        return self if old is MISSING else _Tie(new, old)


_UNTIED: Final = _Tie()


@dataclass(frozen=True)
class _Place:
    """A value that rules look at, and where it stands; `before` is what transition rules compare it with."""

    value: Any
    path: str
    before: Any
    tie: _Tie


class _Stop(Exception):
    """No further rules are run."""


@dataclass
class _Run:
    budget: int = WHOLE_BUDGET
    errors: list[FieldError] = field(default_factory=list)

    def walk(self, tree: RuleTree, place: _Place) -> None:
        try:
            self._walk(tree, place)
        except _Stop:
            return

    def _walk(self, tree: RuleTree, place: _Place) -> None:
        value = place.value
        if value is None:
            return
        if tree.rules and self.budget <= 0:
            self._stop(place.path, _sort(tree), _OUT_OF_BUDGET)
        for rule in tree.rules:
            self._rule(rule, tree, place)
        if isinstance(value, dict):
            old = place.before if isinstance(place.before, dict) else {}
            tied = place.tie.old if isinstance(place.tie.old, dict) else {}
            for name, inner in value.items():
                below = tree.properties.get(name) or (tree.element if "items" not in tree.schema else None)
                if below is not None:
                    where = _joined(place.path, name) if name in tree.properties else f"{place.path}[{name}]"
                    tie = place.tie.below(inner, tied.get(name, MISSING), name)
                    self._walk(below, _Place(inner, where, old.get(name, MISSING), tie))
        elif isinstance(value, list) and tree.element is not None:
            befores = listtype.by_keys(tree.schema, value, place.before)
            ties = listtype.counterparts(tree.schema, value, place.tie.old)
            for i, item in enumerate(value):
                tie = place.tie.below(item, ties[i])
                self._walk(tree.element, _Place(item, f"{place.path}[{i}]", befores[i], tie))

    def _rule(self, rule: Rule, tree: RuleTree, place: _Place) -> None:
        assert rule.program is not None
        optional = bool(rule.given.get("optionalOldSelf"))
        known = place.before is not MISSING and place.before is not None
        if rule.transition and not known and not optional:
            return
        convert = tree.convert or (lambda given: given)
        sort = _sort(tree)
        message = (rule.given.get("message") or "").strip()
        name = message or (rule.given.get("rule") or "").strip()
        try:
            variables = {"self": convert(place.value)}
            if known and rule.transition:
                variables["oldSelf"] = convert(place.before)
            if optional:
                old = Optional(variables["oldSelf"]) if "oldSelf" in variables else NONE
                holds = self._evaluated(rule.program, {**variables, "oldSelf": old})
            else:
                holds = self._evaluated(rule.program, variables)
        except BudgetExceeded as exc:
            told = f"'{exc}': {_NO_MORE} due to call cost exceeds limit for rule: {name}"
            self._stop(place.path, sort, told if self.budget > PER_CALL_BUDGET else _OUT_OF_BUDGET)
        except CelError as exc:
            told = f"{exc} evaluating rule: {name}"
            if str(exc).startswith("no such overload"):
                told = f"'{exc}': call arguments did not match a supported operator, function or macro signature"
                told = f"{told} for rule: {name}"
            self.errors.append(fielderror.invalid(place.path or "<nil>", sort, told))
            return
        if holds is not True:
            self._failed(rule, sort, message or f"failed rule: {name}", variables, place)

    def _evaluated(self, program: Program, variables: Mapping[str, Any]) -> Any:
        """What a program yields, at the cost of the budget. Raises BudgetExceeded for what has not been paid."""
        before = min(self.budget, PER_CALL_BUDGET)
        allowance = [before]
        try:
            return program.evaluate(variables, allowance)
        finally:
            if allowance[0] >= 0:
                self.budget -= before - allowance[0]

    def _failed(self, rule: Rule, sort: str, told: str, variables: Mapping[str, Any], place: _Place) -> None:
        where = rule.field_path
        where = (f"{place.path}.{where}" if place.path and where else place.path or where) or "<nil>"
        borne = not rule.transition and place.tie.unchanged
        ended = False
        if rule.message is not None:
            try:
                told = _usable(self._evaluated(rule.message, variables)) or told
            except BudgetExceeded:
                ended = True
            except CelError:
                pass
        if not ended:
            error = _failure(rule, sort, told, where)
        elif self.budget > PER_CALL_BUDGET:
            given = fielderror.show(rule.given.get("messageExpression"))
            why = f"{_NO_MORE} due to call cost exceeds limit for messageExpression: {given}"
            error = fielderror.invalid(where, sort, why)
        else:
            why = f"messageExpression evaluation failed due to running out of cost budget, {_NO_MORE}"
            error = fielderror.invalid(where, sort, why)
        self.errors.append(replace(error, borne=borne))
        if ended:
            raise _Stop

    def _stop(self, path: str, sort: str, told: str) -> None:
        self.errors.append(fielderror.invalid(path or "<nil>", sort, told))
        raise _Stop


def _sort(tree: RuleTree) -> str:
    return tree.schema.get("type") or ""


def _usable(said: Any) -> str:
    """What a messageExpression yields, if it can be shown."""
    text = said.strip() if isinstance(said, str) else ""
    return text if "\n" not in text and len(text.encode()) <= _LONGEST_MESSAGE else ""


def _failure(rule: Rule, sort: str, message: str, where: str) -> FieldError:
    reason = rule.given.get("reason") or "FieldValueInvalid"
    if reason == "FieldValueRequired":
        return fielderror.required(where, message)
    if reason == "FieldValueForbidden":
        return fielderror.forbidden(where, message)
    if reason == "FieldValueDuplicate":
        return fielderror.duplicate(where, sort)
    return fielderror.invalid(where, sort, message)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
