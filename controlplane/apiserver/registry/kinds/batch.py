"""Jobs and CronJobs."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.workloads import default_cron_job, default_job
from controlplane.apiserver.registry.job_selector import generate_selector, label_as_pods
from controlplane.apiserver.registry.objects import number
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import jobs
from controlplane.apiserver.registry.validation.job_status import job_status
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _create_job(job: Object, context: Context) -> None:
    generate_selector(job)
    prepare_create(status={}, generation=True)(job, context)


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.JOBS: Strategy(
        default=default_job,
        warnings=warnings.named_workload,
        validate=jobs.job,
        validate_update=jobs.job_update,
        validate_status_update=job_status,
        prepare_create=_create_job,
        settle=label_as_pods,
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"status.successful": lambda job: str(number(job, "status", "succeeded"))},
    ),
    catalogue.CRONJOBS: Strategy(
        default=default_cron_job,
        warnings=warnings.cron_job,
        validate=jobs.cron_job,
        validate_update=jobs.cron_job_update,
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
}
