"""Rules of roles, compiled: does a rule allow a request; does a set of rules cover another.

Source: k8s.io/kubernetes/pkg/apis/rbac/v1/evaluation_helpers.go, k8s.io/component-helpers/auth/rbac/validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.request import RequestInfo
from machinery.api.fielderror import show
from machinery.api.meta import Object

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rbac/v1 PolicyRule."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    def allows_resource(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether the rule speaks of this verb on this resource; `names` is not looked at."""
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        if group not in self.groups and ALL not in self.groups:
            return False
        if ALL in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources

    def allows_name(self, name: str) -> bool:
        """Whether the rule speaks of an object of this name."""
        return not self.names or name in self.names

    def allows_path(self, verb: str, path: str) -> bool:
        """Whether the rule allows this verb on this path that is no resource."""
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        return any(url_matches(url, path) for url in self.urls)

    def allows(self, request: RequestInfo) -> bool:
        """Whether the rule allows the request."""
        if not request.is_resource:
            return self.allows_path(request.verb, request.path)
        return self.allows_name(request.name) and self.allows_resource(
            request.verb, request.group, request.resource, request.subresource
        )


def url_matches(pattern: str, path: str) -> bool:
    """Whether a nonResourceURL covers a path; a trailing `*` stands for anything."""
    if pattern in (ALL, path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


def compile_rules(rules: Any) -> tuple[Rule, ...]:
    """Rules as they stand in a role; what is not a rule is skipped, as it grants nothing."""
    if not isinstance(rules, list):
        return ()
    return tuple(compile_rule(rule) for rule in rules if isinstance(rule, dict))


def compile_rule(rule: Object) -> Rule:
    """One rule as it stands in a role."""
    return Rule(
        verbs=_strings(rule.get("verbs")),
        groups=_strings(rule.get("apiGroups")),
        resources=_strings(rule.get("resources")),
        names=_strings(rule.get("resourceNames")),
        urls=_strings(rule.get("nonResourceURLs")),
    )


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(v for v in values if isinstance(v, str)) if isinstance(values, list) else ()


EVERYTHING = (
    Rule(verbs=(ALL,), groups=(ALL,), resources=(ALL,)),
    Rule(verbs=(ALL,), urls=(ALL,)),
)
"""What a cluster administrator may."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One verb on one resource (or on one name of it, or on one path): what a rule falls apart into."""

    group: str
    resource: str
    name: str
    url: str
    verb: str


def atoms(rule: Rule) -> Iterable[Atom]:
    """Every single permission of a rule."""
    for group in rule.groups:
        for resource in rule.resources:
            for verb in rule.verbs:
                for name in rule.names or ("",):
                    yield Atom(group, resource, name, "", verb)
    for url in rule.urls:
        for verb in rule.verbs:
            yield Atom("", "", "", url, verb)


def holds(owner: Sequence[Rule], atom: Atom) -> bool:
    """Whether one of the rules grants the single permission."""
    return any(_rule_holds(rule, atom) for rule in owner)


def _rule_holds(rule: Rule, atom: Atom) -> bool:
    if atom.verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if atom.url:
        return any(url_matches(url, atom.url) for url in rule.urls)
    if atom.group not in rule.groups and ALL not in rule.groups:
        return False
    if rule.names and (not atom.name or atom.name not in rule.names):
        return False
    if ALL in rule.resources or atom.resource in rule.resources:
        return True
    return "/" in atom.resource and f"*/{atom.resource.split('/', 1)[1]}" in rule.resources


def missing(owner: Sequence[Rule], wanted: Iterable[Rule]) -> list[str]:
    """Descriptions of what `wanted` grants and `owner` does not, verbs of one resource together; [] if covered."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for atom in (atom for rule in wanted for atom in atoms(rule)):
        if not holds(owner, atom):
            # Upstream folds the verbs of a resource together, but not those of a path.
            apart = (atom.verb,) if atom.url else ()
            grouped.setdefault((atom.group, atom.resource, atom.name, atom.url, *apart), []).append(atom.verb)
    return sorted({_describe(*key[:4], verbs=verbs) for key, verbs in grouped.items()})


def _describe(group: str, resource: str, name: str, url: str, *, verbs: list[str]) -> str:
    parts = []
    if url:
        parts.append(f"NonResourceURLs:[{show(url)}]")
    else:
        parts += [f"APIGroups:[{show(group)}]", f"Resources:[{show(resource)}]"]
        if name:
            parts.append(f"ResourceNames:[{show(name)}]")
    parts.append(f"Verbs:[{' '.join(show(v) for v in verbs)}]")
    return "{" + ", ".join(parts) + "}"
