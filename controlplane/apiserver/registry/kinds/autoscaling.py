"""HorizontalPodAutoscaler, in both versions."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.workloads import default_hpa, default_hpa_v1
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import disruption as rules
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_V2 = Strategy(
    default=default_hpa,
    validate=rules.autoscaler,
    validate_update=lambda new, old: rules.autoscaler(new),
    validate_status_update=rules.autoscaler_status,
    prepare_create=prepare_create(status={"desiredReplicas": 0, "currentMetrics": None}),
    prepare_update=prepare_update(status=True),
    prepare_status_update=prepare_status_update(),
    has_status=True,
)
_V1 = Strategy(
    default=default_hpa_v1,
    prepare_create=prepare_create(status={"currentReplicas": 0, "desiredReplicas": 0}),
    prepare_update=prepare_update(status=True),
    prepare_status_update=prepare_status_update(),
    has_status=True,
)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.HORIZONTALPODAUTOSCALERS: _V2,
    catalogue.HORIZONTALPODAUTOSCALERS_V1: _V1,
    catalogue.SCALES: Strategy(),
}
