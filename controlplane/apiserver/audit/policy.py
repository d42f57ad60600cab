"""--audit-policy-file: what is told of which requests.

Source: k8s.io/apiserver/pkg/audit/policy, pkg/apis/audit/validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.apiserver.request import RequestInfo, User
from machinery.api import fielderror, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.settings import load_config

FLAG = "--audit-policy-file"

NONE, METADATA, REQUEST, REQUEST_RESPONSE = "None", "Metadata", "Request", "RequestResponse"
LEVELS = (NONE, METADATA, REQUEST, REQUEST_RESPONSE)
RECEIVED, STARTED, COMPLETE, PANIC = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
STAGES = (RECEIVED, STARTED, COMPLETE, PANIC)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is told of a request."""

    level: str
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the policy; what is empty matches everything."""

    decision: Decision
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: Sequence[Mapping[str, Any]]
    paths: Sequence[str]

    def matches(self, user: User | None, info: RequestInfo) -> bool:
        """Whether the rule is about a request; the user is None where nobody was recognised."""
        if self.users and (user is None or user.name not in self.users):
            return False
        if self.groups and (user is None or self.groups.isdisjoint(user.groups)):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return info.is_resource and self._matches_resource(info)
        if self.paths:
            return not info.is_resource and any(_path_matches(info.path, path) for path in self.paths)
        return True

    def _matches_resource(self, info: RequestInfo) -> bool:
        if self.namespaces and info.namespace not in self.namespaces:
            return False
        return not self.resources or any(_group_matches(given, info) for given in self.resources)


def _group_matches(given: Mapping[str, Any], info: RequestInfo) -> bool:
    if (given.get("group") or "") != info.group:
        return False
    resources, called = given.get("resources") or (), given.get("resourceNames") or ()
    if not resources:
        return True
    if called and info.name not in called:
        return False
    combined = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return any(
        resource in (combined, "*")
        or (bool(info.subresource) and resource == f"*/{info.subresource}")
        or resource == f"{info.resource}/*"
        for resource in resources
    )


def _path_matches(path: str, given: str) -> bool:
    return given in ("*", path) or (given.endswith("*") and path.startswith(given.rstrip("*")))


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order: the first that matches decides."""

    rules: Sequence[Rule]

    def decide(self, user: User | None, info: RequestInfo) -> Decision:
        """What is told of a request."""
        for rule in self.rules:
            if rule.matches(user, info):
                return rule.decision
        return _NOTHING


_NOTHING = Decision(NONE)


def load(path: str) -> Policy:
    """Read a policy. Raises SettingsError saying everything that is wrong with it."""
    obj = load_config(Path(path), "Policy", ("audit.k8s.io/v1",))
    errors = list(check(obj))
    if errors:
        raise SettingsError(f"{FLAG} {path}: " + "; ".join(str(error) for error in errors))
    if not obj.get("rules"):
        raise SettingsError(f"{FLAG} {path}: loaded illegal policy with 0 rules")
    return build(obj)


def build(obj: Object) -> Policy:
    """The policy of a checked object."""
    everywhere = frozenset(obj.get("omitStages") or ())
    fields = bool(obj.get("omitManagedFields"))
    rules = []
    for given in obj.get("rules") or ():
        own = given.get("omitManagedFields")
        stages = everywhere | frozenset(given.get("omitStages") or ())
        decision = Decision(given["level"], stages, fields if own is None else bool(own))
        rules.append(
            Rule(
                decision,
                frozenset(given.get("users") or ()),
                frozenset(given.get("userGroups") or ()),
                frozenset(given.get("verbs") or ()),
                frozenset(given.get("namespaces") or ()),
                given.get("resources") or (),
                given.get("nonResourceURLs") or (),
            )
        )
    return Policy(rules)


def check(obj: Object) -> Iterator[FieldError]:
    """What is wrong with a policy."""
    for i, rule in enumerate(obj.get("rules") or ()):
        yield from _check_rule(f"rules[{i}]", rule)


def _check_rule(path: str, rule: Object) -> Iterator[FieldError]:
    level = rule.get("level")
    if not level:
        yield fielderror.required(f"{path}.level")
    elif level not in LEVELS:
        yield fielderror.not_supported(f"{path}.level", level, LEVELS)
    urls = rule.get("nonResourceURLs") or []
    for i, url in enumerate(urls):
        if url == "*":
            continue
        if not url.startswith("/"):
            told = "non-resource URL rules must begin with a '/' character"
            yield fielderror.invalid(f"{path}.nonResourceURLs[{i}]", url, told)
        if "*" in url[:-1]:
            told = "non-resource URL wildcards '*' must be the final character of the rule"
            yield fielderror.invalid(f"{path}.nonResourceURLs[{i}]", url, told)
    for given in rule.get("resources") or ():
        if given.get("group") and (wrong := names.dns1123_subdomain(given["group"])):
            yield fielderror.invalid(f"{path}.resources.group", given["group"], ",".join(wrong))
        if given.get("resourceNames") and not given.get("resources"):
            told = "using resourceNames requires at least one resource"
            yield fielderror.invalid(f"{path}.resources.resourceNames", given["resourceNames"], told)
    for i, stage in enumerate(rule.get("omitStages") or ()):
        if stage not in STAGES:
            yield fielderror.invalid(f"{path}.omitStages[{i}]", stage, f"allowed stages are {','.join(STAGES)}")
    if urls and (rule.get("resources") or rule.get("namespaces")):
        told = "rules cannot apply to both regular resources and non-resource URLs"
        yield fielderror.invalid(f"{path}.nonResourceURLs", urls, told)
