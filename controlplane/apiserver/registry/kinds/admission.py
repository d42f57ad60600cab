"""Admission configuration: webhooks, CEL policies and their bindings."""

from __future__ import annotations

from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_WEBHOOKS = Strategy(
    prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("webhooks",))
)
_SPEC_ONLY = Strategy(prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("spec",)))

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.MUTATINGWEBHOOKCONFIGURATIONS: _WEBHOOKS,
    catalogue.VALIDATINGWEBHOOKCONFIGURATIONS: _WEBHOOKS,
    catalogue.MUTATINGADMISSIONPOLICIES: _SPEC_ONLY,
    catalogue.MUTATINGADMISSIONPOLICYBINDINGS: _SPEC_ONLY,
    catalogue.VALIDATINGADMISSIONPOLICIES: Strategy(
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    ),
    catalogue.VALIDATINGADMISSIONPOLICYBINDINGS: _SPEC_ONLY,
}
