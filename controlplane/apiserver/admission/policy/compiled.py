"""A policy and its bindings as they are evaluated: everything that can be prepared is.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/{generic,validating,mutating}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import Evaluation, ExpressionError, Expressions
from controlplane.apiserver.admission.matching import Matcher, exempt, matcher_of
from controlplane.apiserver.admission.policy.params import resource_of
from controlplane.apiserver.reader import Reader
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy. `error` says why it can't be evaluated at all."""

    name: str
    spec: Object
    matcher: Matcher
    expressions: Expressions
    error: str = ""

    @property
    def fails_closed(self) -> bool:
        """Whether what goes wrong refuses the request."""
        return (self.spec.get("failurePolicy") or "Fail") == "Fail"


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of a policy."""

    name: str
    policy: str
    spec: Object
    matcher: Matcher


class Policies:
    """The policies of one kind, and their bindings, as they change."""

    def __init__(self, reader: Reader, policies: ResourceType, bindings: ResourceType) -> None:
        self._reader = reader
        self._policies: dict[str, Policy] = {}
        self._bindings: dict[str, dict[str, Binding]] = {}
        reader.on_change(policies, self._policy_changed)
        reader.on_change(bindings, self._binding_changed)

    def concern(self, operation: Operation) -> bool:
        """Whether any policy may be about the operation (cheap)."""
        if not self._bindings or not self._policies or exempt(operation):
            return False
        return any(policy.matcher.by_rules(operation) for policy in self._policies.values())

    def about(self, operation: Operation) -> Iterator[Policy]:
        """The policies about the operation that some binding brings to bear, ordered by their names."""
        for name in sorted(self._policies):
            policy = self._policies[name]
            if self._bindings.get(name) and policy.matcher.matches(operation, self._reader):
                yield policy

    def bindings(self, policy: Policy, operation: Operation) -> Iterator[Binding]:
        """The bindings that bring a policy to bear on the operation, ordered by their names."""
        for _, binding in sorted(self._bindings.get(policy.name, {}).items()):
            if binding.matcher.matches(operation, self._reader):
                yield binding

    def misconfigured(self, policy: Policy) -> str:
        """Why a policy can't be evaluated at all, whatever its bindings say; "" if it can."""
        kind = policy.spec.get("paramKind")
        if policy.error or not kind or resource_of(self._reader, kind) is not None:
            return policy.error
        told = f"{kind.get('apiVersion')}, Kind={kind.get('kind')}"
        return f"failed to find resource referenced by paramKind: '{told}'"

    def _policy_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._policies.pop(name_of(old or {}), None)
        else:
            self._policies[name_of(new)] = _policy(new)

    def _binding_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            policy = str((old.get("spec") or {}).get("policyName") or "")
            self._bindings.get(policy, {}).pop(name_of(old), None)
            if not self._bindings.get(policy):
                self._bindings.pop(policy, None)
        if new is not None:
            spec = new.get("spec") or {}
            resources = spec.get("matchResources") or {}
            rules = resources.get("resourceRules") or ()
            matcher = matcher_of(resources, rules, any_resource=not rules)
            binding = Binding(name_of(new), str(spec.get("policyName") or ""), spec, matcher)
            self._bindings.setdefault(binding.policy, {})[binding.name] = binding


def _policy(obj: Object) -> Policy:
    spec = obj.get("spec") or {}
    constraints = spec.get("matchConstraints") or {}
    matcher = matcher_of(constraints, constraints.get("resourceRules") or ())
    variables = tuple((v.get("name") or "", v.get("expression") or "") for v in spec.get("variables") or ())
    expressions = Expressions(variables, literals=bool(spec.get("mutations")))
    error = ""
    try:
        for text in _texts(spec):
            expressions.program(text)
    except ExpressionError as exc:
        error = str(exc)
    return Policy(name_of(obj), spec, matcher, expressions, error)


def _texts(spec: Object) -> Iterator[str]:
    for listed, key in (("matchConditions", "expression"), ("validations", "expression")):
        for item in spec.get(listed) or ():
            yield item.get(key) or ""
    for item in spec.get("auditAnnotations") or ():
        yield item.get("valueExpression") or ""
    for mutation in spec.get("mutations") or ():
        for kind in ("applyConfiguration", "jsonPatch"):
            if mutation.get(kind):
                yield mutation[kind].get("expression") or ""


def unmet_condition(evaluation: Evaluation, conditions: Any) -> str | None:
    """The name of the first matchCondition that is not true; None if all are.

    Raises ExpressionError if one fails and none is false: then it is not known whether this applies.
    """
    failed: ExpressionError | None = None
    for condition in conditions or ():
        try:
            if evaluation.value(condition.get("expression") or "") is not True:
                return str(condition.get("name"))
        except ExpressionError as exc:
            failed = failed or exc
    if failed is not None:
        raise failed
    return None
