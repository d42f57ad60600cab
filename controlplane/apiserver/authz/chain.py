"""The authorisers in the order of --authorization-mode.

Source: k8s.io/kubernetes/pkg/kubeapiserver/authorizer, k8s.io/apiserver/pkg/authorization/union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.apiserver.authz.abac import AbacAuthorizer
from controlplane.apiserver.authz.configuration import MODES, Entry
from controlplane.apiserver.authz.contract import Authorizer, Decision
from controlplane.apiserver.authz.node import NodeAuthorizer
from controlplane.apiserver.authz.rbac import RBACAuthorizer
from controlplane.apiserver.authz.refusal import forbidden
from controlplane.apiserver.authz.rules import EVERYTHING, Rule
from controlplane.apiserver.authz.webhook import WebhookAuthorizer, WebhookSettings
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from machinery.errors import SettingsError

MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Always:
    """Gives every request the same answer."""

    decision: Decision
    reason: str = ""

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """The decision."""
        return self.decision, self.reason


class Chain:
    """Asks each authoriser in turn; members of system:masters are not asked about at all."""

    def __init__(self, authorizers: Sequence[Authorizer], rbac: RBACAuthorizer | None) -> None:
        self._authorizers = tuple(authorizers)
        self._always = any(isinstance(a, Always) and a.decision is Decision.ALLOW for a in authorizers)
        self.rbac = rbac

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """The first decision that is one; NO_OPINION with all the reasons otherwise."""
        if MASTERS in user.groups:
            return Decision.ALLOW, ""
        reasons = []
        for authorizer in self._authorizers:
            decision, reason = await authorizer.authorize(user, request)
            if decision is not Decision.NO_OPINION:
                return decision, reason
            if reason:
                reasons.append(reason)
        return Decision.NO_OPINION, "\n".join(reasons)

    async def require(self, user: User, request: RequestInfo) -> None:
        """Return if the user may. Raises Forbidden with upstream's message."""
        decision, reason = await self.authorize(user, request)
        if decision is not Decision.ALLOW:
            raise forbidden(user, request, reason)

    async def allows(self, user: User, request: RequestInfo) -> bool:
        """Whether the user may."""
        return (await self.authorize(user, request))[0] is Decision.ALLOW

    def rules_for(self, user: User, namespace: str) -> tuple[list[Rule], list[str], bool]:
        """What the user may in a namespace as far as rules can tell; errors; whether there may be more."""
        if self._always:
            return list(EVERYTHING), [], False
        rules, errors = self.rbac.rules_for(user, namespace) if self.rbac else ([], [])
        errors, incomplete = list(errors), False
        for authorizer in self._authorizers:
            if isinstance(authorizer, NodeAuthorizer) and authorizer.is_node(user):
                errors.append("node authorizer does not support user rule resolution")
                incomplete = True
            elif isinstance(authorizer, WebhookAuthorizer):
                errors.append("webhook authorizer does not support user rule resolution")
                incomplete = True
        return rules, errors, incomplete


def build(entries: Sequence[Entry], reader: Reader, *, policy_file: str = "") -> Chain:
    """The chain of these authorisers; ABAC needs a file of policies. Raises SettingsError."""
    rbac: RBACAuthorizer | None = None
    authorizers: list[Authorizer] = []
    for entry in entries:
        match entry.mode:
            case "AlwaysAllow":
                authorizers.append(Always(Decision.ALLOW))
            case "AlwaysDeny":
                authorizers.append(Always(Decision.NO_OPINION, "Everything is forbidden."))
            case "Node":
                authorizers.append(NodeAuthorizer(reader))
            case "RBAC":
                rbac = RBACAuthorizer(reader)
                authorizers.append(rbac)
            case "Webhook":
                if entry.webhook is None:
                    raise SettingsError("--authorization-mode: Webhook needs --authorization-webhook-config-file")
                authorizers.append(WebhookAuthorizer(entry.webhook))
            case "ABAC":
                if not policy_file:
                    raise SettingsError("--authorization-mode: ABAC needs --authorization-policy-file")
                authorizers.append(AbacAuthorizer(policy_file))
            case _:
                raise SettingsError(f"--authorization-mode: unknown mode {entry.mode!r}; known are {', '.join(MODES)}")
    return Chain(authorizers, rbac)


def of_modes(modes: Sequence[str], webhook_config_file: str = "") -> list[Entry]:
    """The authorisers of --authorization-mode. Raises SettingsError."""
    if not modes:
        raise SettingsError("--authorization-mode: at least one mode is needed; use one of " + ", ".join(MODES))
    for mode in modes:
        if list(modes).count(mode) > 1:
            raise SettingsError(f"--authorization-mode: {mode} is given more than once")
    webhook = WebhookSettings(webhook_config_file) if webhook_config_file else None
    return [Entry(mode, mode.lower(), webhook if mode == "Webhook" else None) for mode in modes]
