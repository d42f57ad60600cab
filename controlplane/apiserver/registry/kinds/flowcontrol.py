"""API priority and fairness: FlowSchemas and PriorityLevelConfigurations; and PriorityClasses of pods."""

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

_FLOW = Strategy(
    prepare_create=prepare_create(status={}, generation=True),
    prepare_update=prepare_update(status=True, counts=("spec",)),
    prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
    has_status=True,
)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.FLOWSCHEMAS: _FLOW,
    catalogue.PRIORITYLEVELCONFIGURATIONS: _FLOW,
    catalogue.PRIORITYCLASSES: Strategy(
        prepare_create=prepare_create(generation=True), prepare_update=prepare_update()
    ),
}
