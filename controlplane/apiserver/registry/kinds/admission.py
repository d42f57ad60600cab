"""Admission configuration: webhooks, CEL policies and their bindings."""

from __future__ import annotations

from functools import partial

from controlplane.apiserver.registry.defaults.others import default_policy, default_policy_binding, default_webhooks
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType


def _webhooks(*, mutating: bool) -> Strategy:
    return Strategy(
        default=partial(default_webhooks, mutating=mutating),
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("webhooks",)),
    )


_BINDING = Strategy(
    default=default_policy_binding,
    prepare_create=prepare_create(generation=True),
    prepare_update=prepare_update(counts=("spec",)),
)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.MUTATINGWEBHOOKCONFIGURATIONS: _webhooks(mutating=True),
    catalogue.VALIDATINGWEBHOOKCONFIGURATIONS: _webhooks(mutating=False),
    catalogue.MUTATINGADMISSIONPOLICIES: Strategy(
        default=default_policy,
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("spec",)),
    ),
    catalogue.MUTATINGADMISSIONPOLICYBINDINGS: _BINDING,
    catalogue.VALIDATINGADMISSIONPOLICIES: Strategy(
        default=default_policy,
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    ),
    catalogue.VALIDATINGADMISSIONPOLICYBINDINGS: _BINDING,
}
