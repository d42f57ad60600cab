"""FlowSchemas: which requests are of which flow.

Source: k8s.io/apiserver/pkg/util/flowcontrol/rule.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.authn.identity import split_service_account
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.meta import Object

_EVERY = "*"

SubjectTest = Callable[[User], bool]
RequestTest = Callable[[RequestInfo], bool]


@dataclass(frozen=True, slots=True)
class FlowSchema:
    """A compiled FlowSchema."""

    name: str
    uid: str
    level: str
    """The name of the priority level."""
    precedence: int
    distinguisher: str
    """ByUser, ByNamespace or ""."""
    rules: Sequence[tuple[Sequence[SubjectTest], Sequence[RequestTest]]]

    def matches(self, user: User, info: RequestInfo) -> bool:
        """Whether a request is of this schema."""
        return any(
            any(test(user) for test in subjects) and any(test(info) for test in requests)
            for subjects, requests in self.rules
        )

    def flow_of(self, user: User, info: RequestInfo) -> str:
        """What tells this request's flow from others of the schema."""
        if self.distinguisher == "ByUser":
            return user.name
        return info.namespace if self.distinguisher == "ByNamespace" else ""


def compile_schema(obj: Object) -> FlowSchema:
    """A FlowSchema from its object, which is valid."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    metadata = obj["metadata"]
    return FlowSchema(
        metadata["name"],
        metadata.get("uid", ""),
        spec.get("priorityLevelConfiguration", {}).get("name", ""),
        spec.get("matchingPrecedence") or 1000,
        (spec.get("distinguisherMethod") or {}).get("type", ""),
        [_rule(rule) for rule in spec.get("rules") or ()],
    )


def _rule(rule: Mapping[str, Any]) -> tuple[list[SubjectTest], list[RequestTest]]:
    subjects = [_subject(subject) for subject in rule.get("subjects") or ()]
    requests = [_resource_rule(each) for each in rule.get("resourceRules") or ()]
    requests += [_path_rule(each) for each in rule.get("nonResourceRules") or ()]
    return subjects, requests


def _subject(subject: Mapping[str, Any]) -> SubjectTest:
    kind = subject.get("kind")
    if kind == "User":
        name = subject["user"]["name"]
        return lambda user: name in (_EVERY, user.name)
    if kind == "Group":
        group = subject["group"]["name"]
        return lambda user: group == _EVERY or group in user.groups
    account = subject.get("serviceAccount") or {}
    namespace, called = account.get("namespace", ""), account.get("name", "")

    def is_account(user: User) -> bool:
        found = split_service_account(user.name)
        return found is not None and found[0] == namespace and called in (_EVERY, found[1])

    return is_account


def _resource_rule(rule: Mapping[str, Any]) -> RequestTest:
    verbs, groups, resources = (frozenset(rule.get(k) or ()) for k in ("verbs", "apiGroups", "resources"))
    namespaces, cluster_scope = frozenset(rule.get("namespaces") or ()), bool(rule.get("clusterScope"))

    def matches(info: RequestInfo) -> bool:
        if not info.is_resource:
            return False
        resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        return (
            (_EVERY in verbs or info.verb in verbs)
            and (_EVERY in groups or info.group in groups)
            and (_EVERY in resources or resource in resources)
            and (_EVERY in namespaces or info.namespace in namespaces if info.namespace else cluster_scope)
        )

    return matches


def _path_rule(rule: Mapping[str, Any]) -> RequestTest:
    verbs, paths = frozenset(rule.get("verbs") or ()), list(rule.get("nonResourceURLs") or ())

    def matches(info: RequestInfo) -> bool:
        if info.is_resource or not (_EVERY in verbs or info.verb in verbs):
            return False
        return any(p in (_EVERY, info.path) or (p.endswith("*") and info.path.startswith(p[:-1])) for p in paths)

    return matches
