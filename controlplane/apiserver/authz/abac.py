"""Policies of a file: --authorization-mode=ABAC.

Source: abac.authorization.kubernetes.io/v1beta1 Policy; k8s.io/kubernetes/pkg/auth/authorizer/abac.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.request import RequestInfo, User
from machinery.errors import SettingsError

_FLAG = "--authorization-policy-file"
_ANY = "*"
_EVERYBODY = ("system:authenticated", "system:unauthenticated")
_READING = ("get", "list", "watch", "proxy")


@dataclass(frozen=True, slots=True)
class Policy:
    """One line: whom it lets do what. Empty fields match nothing but what is empty; `*` matches anything."""

    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = ""
    resource: str = ""
    namespace: str = ""
    non_resource_path: str = ""

    def allows(self, user: User, request: RequestInfo) -> bool:
        """Whether it lets the user do this."""
        if not self._is_for(user) or (self.readonly and request.verb not in _READING):
            return False
        if not request.is_resource:
            return _path_matches(self.non_resource_path, request.path)
        return (
            self.namespace in (_ANY, request.namespace)
            and self.resource in (_ANY, request.resource)
            and self.api_group in (_ANY, request.group)
        )

    def _is_for(self, user: User) -> bool:
        if not self.user and not self.group:
            return False
        by_name = self.user in (_ANY, user.name) if self.user else True
        return by_name and (self.group in (_ANY, *user.groups) if self.group else True)


def _path_matches(pattern: str, path: str) -> bool:
    if pattern in (_ANY, path):
        return True
    return pattern.endswith(_ANY) and path.startswith(pattern.rstrip(_ANY))


class AbacAuthorizer:
    """Allows what any policy allows, and has no opinion of the rest."""

    def __init__(self, path: str) -> None:
        """Raises SettingsError naming the line that is wrong."""
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as exc:
            raise SettingsError(f"{_FLAG}: can't read {path}: {exc}") from exc
        self._policies = [
            _policy(line, f"{_FLAG}: {path}: line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """The decision."""
        if any(policy.allows(user, request) for policy in self._policies):
            return Decision.ALLOW, ""
        return Decision.NO_OPINION, "No policy matched."


def _policy(line: str, where: str) -> Policy:
    try:
        told = orjson.loads(line)
    except ValueError as exc:
        raise SettingsError(f"{where}: {exc}") from exc
    if not isinstance(told, dict):
        raise SettingsError(f"{where}: not an object")
    if "kind" not in told and "apiVersion" not in told:
        return _first_version(told)
    if told.get("kind") != "Policy" or not str(told.get("apiVersion")).startswith("abac.authorization.kubernetes.io/"):
        raise SettingsError(f"{where}: not a Policy of abac.authorization.kubernetes.io/v1beta1")
    spec: Any = told.get("spec")
    if not isinstance(spec, dict):
        raise SettingsError(f"{where}: a Policy without a spec")
    return Policy(
        str(spec.get("user") or ""),
        str(spec.get("group") or ""),
        spec.get("readonly") is True,
        str(spec.get("apiGroup") or ""),
        str(spec.get("resource") or ""),
        str(spec.get("namespace") or ""),
        str(spec.get("nonResourcePath") or ""),
    )


def _first_version(told: dict[str, Any]) -> Policy:
    """The form without kinds: what is left out matches everything."""
    user, group = str(told.get("user") or ""), str(told.get("group") or "")
    everything = not told.get("resource") and not told.get("namespace")
    return Policy(
        user or ("" if group else _ANY),
        group,
        told.get("readonly") is True,
        _ANY,
        str(told.get("resource") or _ANY),
        str(told.get("namespace") or _ANY),
        _ANY if everything else "",
    )
