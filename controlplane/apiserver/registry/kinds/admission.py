"""Admission configuration: webhooks, CEL policies and their bindings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from controlplane.apiserver.registry.defaults.others import default_policy, default_policy_binding, default_webhooks
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import policies, webhooks
from machinery.api import catalogue
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _webhooks(*, mutating: bool) -> Strategy:
    return Strategy(
        default=partial(default_webhooks, mutating=mutating),
        validate=partial(webhooks.webhooks, mutating=mutating),
        validate_update=lambda new, old: webhooks.webhooks(new, mutating=mutating),
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("webhooks",)),
        allow_unconditional_update=False,
    )


def _spec(default: Callable[[Object], None], validate: Callable[[Object], list[FieldError]]) -> Strategy:
    return Strategy(
        default=default,
        validate=validate,
        validate_update=lambda new, old: validate(new),
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("spec",)),
        allow_unconditional_update=False,
    )


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.MUTATINGWEBHOOKCONFIGURATIONS: _webhooks(mutating=True),
    catalogue.VALIDATINGWEBHOOKCONFIGURATIONS: _webhooks(mutating=False),
    catalogue.MUTATINGADMISSIONPOLICIES: _spec(default_policy, policies.mutating_policy),
    catalogue.MUTATINGADMISSIONPOLICYBINDINGS: _spec(default_policy_binding, policies.mutating_binding),
    catalogue.VALIDATINGADMISSIONPOLICIES: replace(
        _spec(default_policy, policies.validating_policy),
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        validate_status_update=policies.validating_policy_status,
        has_status=True,
    ),
    catalogue.VALIDATINGADMISSIONPOLICYBINDINGS: _spec(default_policy_binding, policies.validating_binding),
}
