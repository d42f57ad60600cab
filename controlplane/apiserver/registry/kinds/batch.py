"""Jobs and CronJobs."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import number
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.JOBS: Strategy(
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"status.successful": lambda job: str(number(job, "status", "succeeded"))},
    ),
    catalogue.CRONJOBS: Strategy(
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
}
