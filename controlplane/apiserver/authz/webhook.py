"""Asks another server whether a user may: --authorization-mode=Webhook.

Source: k8s.io/apiserver/plugin/pkg/authorizer/webhook.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.apiserver.authz.conditions import ALL, Conditions
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.remote import TIMEOUT_SECONDS, RemoteReview, from_kubeconfig, in_cluster
from controlplane.apiserver.authz.selectors import field_requirements, label_requirements
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.meta import Object
from machinery.cel.errors import EvaluationError
from machinery.errors import TransportError

_REMEMBERED = 4096
_LARGEST_KEY = 10_000
"""What a client can make arbitrarily long is not remembered."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How to reach the webhook, and how long its decisions hold."""

    config_file: str
    """A kubeconfig; "": the cluster's own API server, as a pod reaches it."""
    authorized_ttl_seconds: float = 300
    unauthorized_ttl_seconds: float = 30
    timeout_seconds: float = TIMEOUT_SECONDS
    version: str = "v1"
    """Of the SubjectAccessReviews that are sent."""
    deny_on_failure: bool = False
    """What can't be asked about is denied, instead of left to the next authoriser."""
    conditions: Conditions = ALL
    """Which requests it is asked about."""


@dataclass(slots=True)
class WebhookAuthorizer:
    """Sends SubjectAccessReviews and remembers the answers for a while."""

    settings: WebhookSettings
    monotonic: Callable[[], float] = time.monotonic
    _remote: RemoteReview = field(init=False)
    _answers: dict[tuple[object, ...], tuple[float, Decision, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        config_file = self.settings.config_file
        made = from_kubeconfig(config_file, "--authorization-webhook-config-file") if config_file else in_cluster()
        made.timeout_seconds = self.settings.timeout_seconds
        self._remote = made

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """The webhook's decision; NO_OPINION with the reason when it can't be had."""
        extra = tuple(sorted(user.extra.items()))
        key = (user.name, user.uid, user.groups, extra, request)
        answer = self._answers.get(key)
        if answer is not None and answer[0] > self.monotonic():
            return answer[1], answer[2]
        review = _review(user, request, self.settings.version)
        failed = Decision.DENY if self.settings.deny_on_failure else Decision.NO_OPINION
        try:
            if not self.settings.conditions.match(review["spec"]):
                return Decision.NO_OPINION, ""
            status = (await self._remote.ask(_sent(review))).get("status")
        except (TransportError, EvaluationError) as exc:
            return failed, str(exc)
        if not isinstance(status, dict):
            return failed, "webhook returned no status"
        reason = str(status.get("reason") or "")
        if status.get("denied") and status.get("allowed"):
            return Decision.DENY, "webhook subject access review returned both allow and deny response"
        decision, ttl = Decision.NO_OPINION, self.settings.unauthorized_ttl_seconds
        if status.get("denied"):
            decision = Decision.DENY
        elif status.get("allowed"):
            decision, ttl = Decision.ALLOW, self.settings.authorized_ttl_seconds
        if len(request.path) + len(request.name) + len(request.field_selector) < _LARGEST_KEY:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            self._answers[key] = (self.monotonic() + ttl, decision, reason)
        return decision, reason

    async def close(self) -> None:
        """Close connections."""
        await self._remote.close()


def _sent(review: Object) -> Object:
    """The review in its own version: the first called a user's groups by another name."""
    if not review["apiVersion"].endswith("/v1beta1") or "groups" not in review["spec"]:
        return review
    spec = dict(review["spec"])
    spec["group"] = spec.pop("groups")
    return {**review, "spec": spec}


def _review(user: User, request: RequestInfo, version: str) -> Object:
    spec: Object = {"user": user.name}
    if request.is_resource:
        asked = {
            "namespace": request.namespace,
            "verb": request.verb,
            "group": request.group,
            "version": request.version,
            "resource": request.resource,
            "subresource": request.subresource,
            "name": request.name,
        }
        spec["resourceAttributes"] = {key: value for key, value in asked.items() if value}
        for name, requirements in (
            ("fieldSelector", field_requirements(request.field_selector)),
            ("labelSelector", label_requirements(request.label_selector)),
        ):
            if requirements:
                spec["resourceAttributes"][name] = {"requirements": requirements}
    else:
        spec["nonResourceAttributes"] = {"path": request.path, "verb": request.verb}
    if user.uid:
        spec["uid"] = user.uid
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {"apiVersion": f"authorization.k8s.io/{version}", "kind": "SubjectAccessReview", "spec": spec}
