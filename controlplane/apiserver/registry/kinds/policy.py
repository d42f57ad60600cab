"""PodDisruptionBudgets."""

from __future__ import annotations

from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import disruption as rules
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_NEW_STATUS = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.PODDISRUPTIONBUDGETS: Strategy(
        validate=rules.budget,
        validate_update=lambda new, old: rules.budget(new),
        validate_status_update=rules.budget_status,
        allow_unconditional_update=False,
        prepare_create=prepare_create(status=_NEW_STATUS, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
}
