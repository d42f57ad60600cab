"""The hand of the CronJob controller.

Source: k8s.io/kubernetes/pkg/controller/cronjob/cronjob_controllerv2.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers import metrics
from controlplane.controllers.cronjob.plan import (
    CronPlan,
    job_name,
    make_job,
    plan_cron,
    set_active,
    started,
)
from controlplane.controllers.environment import Environment
from controlplane.controllers.freshness import Written
from controlplane.controllers.ownership import controlled, follow
from controlplane.controllers.podcontrol import namespace_terminates
from machinery.api.catalogue import CRONJOBS, JOBS
from machinery.api.meta import Object, controller_of, key_of, name_of, namespace_of, parse_time, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, NotFound, StatusError
from machinery.events import EventRecorder

ACCOUNT = "cronjob-controller"


@dataclass(frozen=True)
class CronReconciler:
    """Drives one CronJob."""

    crons: Informer
    jobs: Informer
    client: Client
    recorder: EventRecorder
    clock: Clock
    written: Written = field(default_factory=Written)

    async def reconcile(self, key: str) -> float | None:
        """Start what is due; returns seconds until the next scheduled time."""
        cron = self.crons.get(key)
        if cron is None:
            self.written.forget(key)
            return None
        if self.written.is_stale(key, cron):
            return None
        plan = plan_cron(cron, controlled(self.jobs, cron), self.clock.now())
        self.recorder.tell(cron, plan.events)
        await self._drop_missing(cron, plan)
        for job in plan.cleanup:
            await self._delete(cron, job)
        status = plan.status
        if plan.start is not None:
            status = await self._start(cron, plan, plan.start)
        if status != (cron.get("status") or {}):
            changed = {**cron, "status": status}
            self.written.note(await self.client.update(CRONJOBS, changed, subresource="status"))
        return plan.wait_seconds

    async def _drop_missing(self, cron: Object, plan: CronPlan) -> None:
        """Take Jobs that are gone off the list; the cache may only be behind, so the API server is asked."""
        gone = set()
        for reference in plan.missing:
            try:
                await self.client.get(JOBS, reference["name"], namespace_of(cron))
            except NotFound:
                self.recorder.normal(cron, "MissingJob", f"Active job went missing: {reference['name']}")
                gone.add(reference.get("uid"))
        if gone:
            set_active(plan.status, [r for r in plan.status.get("active") or () if r.get("uid") not in gone])

    async def _start(self, cron: Object, plan: CronPlan, due: datetime) -> Object:
        """Make the Job that is due; returns the status after that."""
        status = dict(plan.status)
        for reference in plan.replace:
            await self._delete(cron, {"metadata": {**reference, "namespace": namespace_of(cron)}})
            set_active(status, [r for r in status.get("active") or () if r.get("uid") != reference.get("uid")])
        try:
            job = await self.client.create(JOBS, make_job(cron, due))
        except AlreadyExists:
            job = await self.client.get(JOBS, job_name(cron, due), namespace_of(cron))
            owner = controller_of(job)
            if owner is None or owner.get("uid") != uid_of(cron):
                told = f"Error creating job: {job_name(cron, due)} exists and is not controlled by this CronJob"
                self.recorder.warning(cron, "FailedCreate", told)
                return status
        except StatusError as exc:
            if namespace_terminates(exc):
                return status
            self.recorder.warning(cron, "FailedCreate", f"Error creating job: {exc}")
            raise
        if created := job["metadata"].get("creationTimestamp"):
            metrics.CRONJOB_SKEW.observe((parse_time(created) - due).total_seconds())
        self.recorder.normal(cron, "SuccessfulCreate", f"Created job {name_of(job)}")
        return started(status, job, due)

    async def _delete(self, cron: Object, job: Object) -> None:
        try:
            await self.client.delete(JOBS, name_of(job), namespace_of(cron), uid=uid_of(job), propagation="Background")
        except NotFound:
            return
        except StatusError as exc:
            self.recorder.warning(cron, "FailedDelete", f"Deleted job: {exc}")
            raise
        self.recorder.normal(cron, "SuccessfulDelete", f"Deleted job {name_of(job)}")


def build(env: Environment) -> list[Controller]:
    """The controller of CronJobs."""
    crons, jobs = env.informer(CRONJOBS), env.informer(JOBS)
    reconciler = CronReconciler(
        crons=crons,
        jobs=jobs,
        client=env.client_for(ACCOUNT),
        recorder=env.recorder(ACCOUNT, ACCOUNT),
        clock=env.clock,
    )
    controller = Controller("cronjob", reconciler.reconcile, workers=env.options.concurrent("cron-job"))
    crons.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow(jobs, crons, CRONJOBS, controller.enqueue)
    return [controller]
