"""The RBAC authoriser: roles and bindings compiled into an index that every change of one of them brings up to date.

What a user may is gathered once and remembered until a role or binding changes, so that a decision is two look-ups.

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.rules import Rule, compile_rules
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from machinery.api.fielderror import show
from machinery.api.meta import Object, name_of, namespace_of
from machinery.errors import NotFound, StatusError

_REMEMBERED_USERS = 4096
_REMEMBERED_DECISIONS = 1024  # of one user

Subject = tuple[str, str]  # ("User" | "Group", name); a service account is the user of its name


@dataclass(frozen=True, slots=True)
class _Binding:
    """A binding as it stands in the index, once for each of its subjects."""

    position: tuple[str, int]  # (name of the binding, index of the subject): the order of looking
    reason: str
    role_kind: str
    role_name: str
    namespace: str


@dataclass(slots=True)
class _Gathered:
    """All rules of one user in one scope, with where each is from, and what could not be found."""

    rules: list[tuple[Rule, str]]
    errors: list[str]
    decisions: dict[tuple[str, str, str, str], list[tuple[Rule, str]]] = field(default_factory=dict)

    def matching(self, request: RequestInfo) -> list[tuple[Rule, str]]:
        """The rules that speak of the request's verb and resource, up to the first that speaks of all names."""
        key = (request.verb, request.group, request.resource, request.subresource)
        found = self.decisions.get(key)
        if found is None:
            found = []
            for rule, reason in self.rules:
                if rule.allows_resource(*key):
                    found.append((rule, reason))
                    if not rule.names:
                        break
            if len(self.decisions) >= _REMEMBERED_DECISIONS:
                self.decisions.clear()
            self.decisions[key] = found
        return found


class RBACAuthorizer:
    """Allows what a (Cluster)RoleBinding grants to the user or one of his groups. Never denies."""

    def __init__(self, reader: Reader) -> None:
        self._roles: dict[tuple[str, str], tuple[Rule, ...]] = {}  # (namespace or "", name)
        # namespace ("" for cluster role bindings) → subject → binding's name → binding
        self._bindings: dict[str, dict[Subject, dict[str, _Binding]]] = {}
        self._gathered: dict[tuple[str, tuple[str, ...], str], _Gathered] = {}
        for resource in (CLUSTERROLES, ROLES):
            reader.on_change(resource, self._role_changed)
        for resource in (CLUSTERROLEBINDINGS, ROLEBINDINGS):
            reader.on_change(resource, self._binding_changed)

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """ALLOW with the binding that grants it, or NO_OPINION."""
        gathered = self._rules_of(user, request.namespace)
        if request.is_resource:
            for rule, reason in gathered.matching(request):
                if rule.allows_name(request.name):
                    return Decision.ALLOW, reason
        else:
            for rule, reason in gathered.rules:
                if rule.allows_path(request.verb, request.path):
                    return Decision.ALLOW, reason
        return Decision.NO_OPINION, f"RBAC: {aggregate(gathered.errors)}" if gathered.errors else ""

    def rules_for(self, user: User, namespace: str) -> tuple[list[Rule], list[str]]:
        """All rules of the user in the namespace ("" for the cluster's alone), and what could not be resolved."""
        gathered = self._rules_of(user, namespace)
        return [rule for rule, _ in gathered.rules], gathered.errors

    def role_rules(self, kind: str, name: str, namespace: str) -> tuple[Rule, ...]:
        """The rules a roleRef points to, seen from `namespace`. Raises NotFound; StatusError for an unknown kind."""
        if kind not in ("Role", "ClusterRole"):
            raise StatusError(f"unsupported role reference kind: {show(kind)}")
        rules = self._roles.get((namespace if kind == "Role" else "", name))
        if rules is None:
            raise NotFound(
                f"{kind.lower()}.rbac.authorization.k8s.io {show(name)} not found",
                details={"name": name, "group": "rbac.authorization.k8s.io", "kind": kind.lower()},
            )
        return rules

    def _rules_of(self, user: User, namespace: str) -> _Gathered:
        key = (user.name, user.groups, namespace)
        gathered = self._gathered.get(key)
        if gathered is None:
            if len(self._gathered) >= _REMEMBERED_USERS:
                self._gathered.clear()
            gathered = self._gathered[key] = self._gather(user, namespace)
        return gathered

    def _gather(self, user: User, namespace: str) -> _Gathered:
        gathered = _Gathered([], [])
        for scope in ("", namespace) if namespace else ("",):
            for binding in self._bindings_of(user, scope):
                try:
                    rules = self.role_rules(binding.role_kind, binding.role_name, scope)
                except StatusError as exc:
                    gathered.errors.append(exc.message)
                else:
                    gathered.rules += [(rule, binding.reason) for rule in rules]
        return gathered

    def _bindings_of(self, user: User, namespace: str) -> Iterator[_Binding]:
        """The bindings that apply, in the order of their names; each once, for the first subject that matches."""
        by_subject = self._bindings.get(namespace, {})
        found: dict[str, _Binding] = {}
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            for name, binding in by_subject.get(subject, {}).items():
                if name not in found or binding.position < found[name].position:
                    found[name] = binding
        return iter(sorted(found.values(), key=_position))

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        self._gathered.clear()
        if new is not None:
            self._roles[namespace_of(new), name_of(new)] = compile_rules(new.get("rules"))
        elif old is not None:
            self._roles.pop((namespace_of(old), name_of(old)), None)

    def _binding_changed(self, old: Object | None, new: Object | None) -> None:
        self._gathered.clear()
        for obj, put in ((old, False), (new, True)):
            if obj is None:
                continue
            by_subject = self._bindings.setdefault(namespace_of(obj), {})
            for subject, binding in _compiled(obj):
                if put:
                    by_subject.setdefault(subject, {}).setdefault(binding.position[0], binding)
                else:
                    by_subject.get(subject, {}).pop(binding.position[0], None)
                    if not by_subject.get(subject):
                        by_subject.pop(subject, None)


_position: Callable[[_Binding], tuple[str, int]] = lambda binding: binding.position  # noqa: E731


def _compiled(obj: Object) -> Iterator[tuple[Subject, _Binding]]:
    namespace, name = namespace_of(obj), name_of(obj)
    reference = obj.get("roleRef") or {}
    role_kind, role_name = str(reference.get("kind", "")), str(reference.get("name", ""))
    for index, subject in enumerate(obj.get("subjects") or ()):
        matched = _subject(subject, namespace)
        if matched is None:
            continue
        told = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
        told = f"RBAC: allowed by {told} of {role_kind} {show(role_name)} to {_describe(subject, namespace)}"
        yield matched, _Binding((name, index), told, role_kind, role_name, namespace)


def _subject(subject: Any, namespace: str) -> Subject | None:
    kind, name = subject.get("kind"), str(subject.get("name", ""))
    if kind in ("User", "Group"):
        return kind, name
    if kind == "ServiceAccount":
        home = subject.get("namespace") or namespace
        return ("User", f"system:serviceaccount:{home}:{name}") if home else None
    return None


def _describe(subject: Any, namespace: str) -> str:
    kind, name = subject["kind"], str(subject.get("name", ""))
    if kind == "ServiceAccount":
        name = f"{name}/{subject.get('namespace') or namespace}"
    return f"{kind} {show(name)}"


def aggregate(errors: Sequence[str]) -> str:
    """Several errors as one text, as upstream's Aggregate writes them: each once, bracketed if more than one."""
    told = list(dict.fromkeys(errors))
    return told[0] if len(told) == 1 else "[" + ", ".join(told) + "]"
