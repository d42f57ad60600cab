"""The webhooks of all configurations, as they change, ready to be matched and called.

Source: admissionregistration.k8s.io/v1 MutatingWebhookConfiguration, ValidatingWebhookConfiguration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.admission import celauthorizer
from controlplane.apiserver.admission.admissionrequest import admission_request
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import WEBHOOK_VARIABLES, Evaluation, ExpressionError, Expressions
from controlplane.apiserver.admission.matching import Matcher, exempt, matcher_of
from controlplane.apiserver.admission.policy.compiled import unmet_condition
from controlplane.apiserver.authz.refusal import forbidden_object
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from machinery.api.fielderror import show
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.errors import BadRequest

_DEFAULT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of one configuration."""

    name: str
    configuration: str
    spec: Any
    matcher: Matcher

    @property
    def fails_closed(self) -> bool:
        """Whether a failure to call it refuses the request."""
        return (self.spec.get("failurePolicy") or "Fail") == "Fail"

    @property
    def timeout_seconds(self) -> float:
        """How long it may take."""
        return float(self.spec.get("timeoutSeconds") or _DEFAULT_TIMEOUT_SECONDS)

    @property
    def reinvoked(self) -> bool:
        """Whether it wants to see what later ones changed."""
        return bool(self.spec.get("reinvocationPolicy") == "IfNeeded")


class Webhooks:
    """The webhooks of one kind of configuration."""

    def __init__(self, reader: Reader, configurations: ResourceType, authorize: Authorize) -> None:
        self._reader = reader
        self._authorize = authorize
        self._by_configuration: dict[str, list[Webhook]] = {}
        reader.on_change(configurations, self._changed)

    def concern(self, operation: Operation) -> bool:
        """Whether any webhook may be about the operation (cheap)."""
        if not self._by_configuration or exempt(operation):
            return False
        return any(w.matcher.by_rules(operation) for hooks in self._by_configuration.values() for w in hooks)

    def matching(self, operation: Operation) -> Iterator[tuple[int, Webhook]]:
        """The webhooks to call with their places, in the order of their configurations' names.

        Raises BadRequest for a dry run that a webhook does not support, Forbidden for a condition that fails.
        """
        all_of_them = (hook for _, hooks in sorted(self._by_configuration.items()) for hook in hooks)
        for index, webhook in enumerate(all_of_them):
            if webhook.matcher.matches(operation, self._reader) and self._meets(webhook, operation):
                if operation.dry_run and webhook.spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
                    raise BadRequest(f"admission webhook {show(webhook.name)} does not support dry run")
                yield index, webhook

    def _meets(self, webhook: Webhook, operation: Operation) -> bool:
        conditions = webhook.spec.get("matchConditions")
        if not conditions:
            return True
        evaluation = Evaluation(
            Expressions(names=WEBHOOK_VARIABLES),
            {
                "object": operation.object,
                "oldObject": operation.old,
                "request": admission_request(operation),
                **celauthorizer.variables(operation, self._authorize),
            },
        )
        try:
            return unmet_condition(evaluation, conditions) is None
        except ExpressionError as exc:
            if not webhook.fails_closed:
                return False
            resource = operation.resource
            raise forbidden_object(resource.group, resource.plural, operation.name, str(exc)) from exc

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._by_configuration.pop(name_of(old or {}), None)
            return
        name = name_of(new)
        self._by_configuration[name] = [
            Webhook(str(spec.get("name") or ""), name, spec, matcher_of(spec, spec.get("rules") or ()))
            for spec in new.get("webhooks") or ()
        ]
