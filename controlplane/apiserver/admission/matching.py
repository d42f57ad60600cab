"""Which operations a webhook or a policy is about: rules, namespace selector, object selector.

Source: k8s.io/apiserver/pkg/admission/plugin/webhook/predicates, pkg/admission/plugin/policy/matching.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE
from controlplane.apiserver.reader import Reader
from machinery.api import labels
from machinery.api.catalogue import NAMESPACES
from machinery.api.fielderror import show
from machinery.api.labels import Selector
from machinery.api.meta import Object, labels_of
from machinery.errors import NotFound

_EXEMPT = frozenset(
    {
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    }
)


def exempt(operation: Operation) -> bool:
    """Whether no webhook or policy is asked: those that configure them must always be mendable."""
    return operation.resource.group == "admissionregistration.k8s.io" and operation.resource.plural in _EXEMPT


@dataclass(frozen=True, slots=True)
class Rule:
    """One RuleWithOperations (and NamedRuleWithOperations), ready to be compared."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]  # (resource, subresource), each may be *
    scope: str
    names: frozenset[str]

    def matches(self, operation: Operation, *, any_version: bool) -> bool:
        """Whether the rule is about the operation; `any_version` for matchPolicy Equivalent."""
        if not _among(operation.verb, self.operations) or not _among(operation.resource.group, self.groups):
            return False
        if not any_version and not _among(operation.resource.version, self.versions):
            return False
        if self.names and operation.name not in self.names:
            return False
        if self.scope != "*":
            namespaced = bool(operation.namespace) and operation.resource != NAMESPACES
            if (self.scope == "Namespaced") is not namespaced:
                return False
        plural, subresource = operation.resource.plural, operation.subresource
        return any(r in ("*", plural) and s in ("*", subresource) for r, s in self.resources)


def _among(value: str, allowed: frozenset[str]) -> bool:
    return value in allowed or "*" in allowed


def rule_of(obj: Object) -> Rule:
    """A rule as it stands in a configuration."""
    resources = []
    for resource in obj.get("resources") or ():
        plural, _, subresource = resource.partition("/")
        resources.append((plural, subresource))
    return Rule(
        frozenset(obj.get("operations") or ()),
        frozenset(obj.get("apiGroups") or ()),
        frozenset(obj.get("apiVersions") or ()),
        tuple(resources),
        obj.get("scope") or "*",
        frozenset(obj.get("resourceNames") or ()),
    )


@dataclass(frozen=True, slots=True)
class Matcher:
    """Rules and selectors of one webhook, policy or binding."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    namespaces: Selector
    objects: Selector
    any_version: bool
    any_resource: bool = False
    """Whether to be about everything (a binding without rules)."""

    def by_rules(self, operation: Operation) -> bool:
        """Whether the rules alone are about the operation (cheap: no look at other objects)."""
        if any(rule.matches(operation, any_version=self.any_version) for rule in self.excluded):
            return False
        return self.any_resource or any(rule.matches(operation, any_version=self.any_version) for rule in self.rules)

    def matches(self, operation: Operation, reader: Reader) -> bool:
        """Whether this is about the operation. Raises NotFound if its namespace is not there."""
        return self.by_rules(operation) and self._by_namespace(operation, reader) and self._by_object(operation)

    def _by_namespace(self, operation: Operation, reader: Reader) -> bool:
        if not self.namespaces or (not operation.namespace and operation.resource != NAMESPACES):
            return True
        return self.namespaces.matches(_namespace_labels(operation, reader))

    def _by_object(self, operation: Operation) -> bool:
        if not self.objects:
            return True
        return any(
            obj is not None and self.objects.matches(labels_of(obj)) for obj in (operation.object, operation.old)
        )


def _namespace_labels(operation: Operation, reader: Reader) -> Mapping[str, str]:
    if operation.resource == NAMESPACES and operation.verb in (CREATE, UPDATE) and not operation.subresource:
        return labels_of(operation.object or {})  # memory does not have it yet
    name = operation.namespace or operation.name
    namespace = reader.get(NAMESPACES, "", name)
    if namespace is None:
        raise NotFound(f"namespaces {show(name)} not found", details={"name": name, "kind": "namespaces"})
    return labels_of(namespace)


def matcher_of(spec: Mapping[str, Any], rules: Iterable[Object], *, any_resource: bool = False) -> Matcher:
    """The matcher of a webhook, or of a policy's or binding's resources. Raises ValueError for a bad selector."""
    return Matcher(
        tuple(rule_of(rule) for rule in rules),
        tuple(rule_of(rule) for rule in spec.get("excludeResourceRules") or ()),
        labels.from_selector(spec.get("namespaceSelector") or {}),
        labels.from_selector(spec.get("objectSelector") or {}),
        (spec.get("matchPolicy") or "Equivalent") == "Equivalent",
        any_resource,
    )
