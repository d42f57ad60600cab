"""Jobs that ask for it are deleted some time after they have ended.

Source: KEP-592; k8s.io/kubernetes/pkg/controller/ttlafterfinished.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.job.status import FINISHED
from machinery.api.catalogue import JOBS
from machinery.api.meta import Object, condition, is_deleting, key_of, parse_time, split_key, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound

ACCOUNT = "ttl-after-finished-controller"


def seconds_left(job: Object, now: datetime) -> float | None:
    """Seconds until the Job must go (0 or less: now); None if it stays."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or is_deleting(job):
        return None
    for kind in FINISHED:
        ended = condition((job.get("status") or {}).get("conditions"), kind)
        if ended is not None and ended["status"] == "True":
            return float(ttl) - (now - parse_time(ended["lastTransitionTime"])).total_seconds()
    return None


@dataclass(frozen=True)
class FinishedJobs:
    """Deletes one Job when its time is up."""

    jobs: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Delete the Job, or return seconds until that is due."""
        cached = self.jobs.get(key)
        if cached is None:
            return None
        left = seconds_left(cached, self.clock.now())
        if left is None or left > 0:
            return left
        namespace, name = split_key(key)
        try:
            # The cache may be behind: a Job whose TTL was just raised must not go.
            fresh = await self.client.get(JOBS, name, namespace)
            left = seconds_left(fresh, self.clock.now())
            if left is None or left > 0:
                return left
            await self.client.delete(JOBS, name, namespace, uid=uid_of(fresh), propagation="Foreground")
        except NotFound:
            return None
        metrics.JOB_DELETION_SECONDS.observe(-left)
        return None


def build(env: Environment) -> list[Controller]:
    """The controller that deletes finished Jobs."""
    jobs = env.informer(JOBS)
    reconciler = FinishedJobs(jobs, env.client_for(ACCOUNT), env.clock)
    workers = env.options.concurrent("ttl-after-finished")
    controller = Controller("ttl_jobs_to_delete", reconciler.reconcile, workers=workers)

    def job_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and seconds_left(new, env.clock.now()) is not None:
            controller.enqueue(key_of(new))

    jobs.on_change(job_changed)
    return [controller]
