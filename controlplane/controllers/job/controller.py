"""The hand of the Job controller.

Source: k8s.io/kubernetes/pkg/controller/job/job_controller.go.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from controlplane.controllers import metrics
from controlplane.controllers.adoption import Claimer
from controlplane.controllers.environment import Environment
from controlplane.controllers.expectations import Expectations
from controlplane.controllers.freshness import Written
from controlplane.controllers.job.plan import JobPlan, plan_job
from controlplane.controllers.job.pod import make_pod
from controlplane.controllers.job.status import count_up, finished, is_finished
from controlplane.controllers.job.tally import TRACKING, last_failures
from controlplane.controllers.ownership import candidates, controlled, follow, resolve, selector_of
from controlplane.controllers.podcontrol import PodControl, namespace_terminates
from controlplane.controllers.slowstart import slow_start
from machinery.api.catalogue import JOBS, PODS
from machinery.api.meta import (
    Object,
    controller_of,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder

ACCOUNT = "job-controller"
MANAGER = "kubernetes.io/job-controller"


@dataclass(frozen=True)
class JobReconciler:
    """Drives one Job to its completions."""

    jobs: Informer
    pods: Informer
    client: Client
    control: PodControl
    claimer: Claimer
    recorder: EventRecorder
    expected: Expectations
    clock: Clock
    written: Written = field(default_factory=Written)
    untracked: dict[str, set[str]] = field(default_factory=dict)
    """By Job: uids of pods whose finalizer was removed and that the cache still shows with it."""

    async def reconcile(self, key: str) -> float | None:
        """One step; returns seconds until a deadline or the end of a back-off."""
        job = self.jobs.get(key)
        mode = _mode(job) if job is not None else ""
        measured, started = _Measured(), time.perf_counter()
        result = "error"
        try:
            wait = await self._step(key, measured)
            result = "success"
        finally:
            if mode and measured.action:
                metrics.JOB_SYNCS.labels(mode, result, measured.action).inc()
                seconds = time.perf_counter() - started
                metrics.JOB_SYNC_SECONDS.labels(mode, result, measured.action).observe(seconds)
        return wait

    async def _step(self, key: str, measured: _Measured) -> float | None:
        job = self.jobs.get(key)
        if job is None:
            self.expected.forget(key)
            self.written.forget(key)
            self.untracked.pop(key, None)
            return None
        if is_finished(job) or job["spec"].get("managedBy", MANAGER) != MANAGER or self.written.is_stale(key, job):
            return None
        measured.action = "reconciling"
        settled = self.expected.settled(key)
        pods = await self.claimer.claim(job, selector_of(job), candidates(self.pods, job), finalizer=TRACKING)
        untracked = self._untracked(key)
        plan = plan_job(job, pods, self.clock.now(), settled=settled, untracked=frozenset(untracked))
        if plan.finish is None:
            measured.action = "pods_deleted" if plan.delete else "pods_created" if plan.create else "tracking"
        status = dict(plan.status)
        error = await self._delete(key, job, plan) if plan.delete else None
        if error is not None and not plan.delete_uncounted:
            raise error  # the Job is not over before its pods are
        if plan.create and error is None:
            missing, error = await self._create(key, job, plan, pods)
            _lower(status, missing)
        self.recorder.tell(job, plan.events)
        await self._account(key, job, status, plan, pods, may_finish=error is None)
        if error is not None:
            raise error
        return plan.wait_seconds

    # -- counting ----------------------------------------------------------------------------------------------------

    async def _account(
        self, key: str, job: Object, status: Object, plan: JobPlan, pods: list[Object], *, may_finish: bool
    ) -> None:
        """Note ends in the status, remove finalizers, count; in this order, so that each end counts once."""
        now = self.clock.now()
        noted = _noted(status)
        before = job.get("status") or {}
        told = (status.get(name) != before.get(name) for name in ("completedIndexes", "failedIndexes", "conditions"))
        if noted - _noted(before) or any(told):
            job = await self._write(job, status)
        released = await self._release(key, plan.release)
        tracked = {uid_of(p) for p in pods if TRACKING in (p["metadata"].get("finalizers") or ())}
        gone = noted - tracked | (noted & self._untracked(key)) | released
        status = count_up(status, job, gone)
        complete = plan.finish is not None and may_finish and not _noted(status)
        if complete and plan.finish is not None:
            status = finished(status, plan.finish, now)
        await self._write(job, status)
        for name in ("succeeded", "failed"):
            more = int(status.get(name) or 0) - int(before.get(name) or 0)
            metrics.JOB_PODS_FINISHED.labels(_mode(job), name).inc(max(0, more))
        if complete and plan.finish is not None:
            result = "succeeded" if plan.finish["type"] == "Complete" else "failed"
            metrics.JOBS_FINISHED.labels(_mode(job), result, plan.finish["reason"]).inc()
            if plan.finish["type"] == "Complete":
                completions = job["spec"].get("completions")
                if completions is not None and int(status.get("succeeded") or 0) > int(completions):
                    message = "Too many succeeded pods running after completion count reached"
                    self.recorder.warning(job, "TooManySucceededPods", message)
                self.recorder.normal(job, "Completed", "Job completed")
            else:
                self.recorder.warning(job, plan.finish["reason"], plan.finish["message"])

    async def _write(self, job: Object, status: Object) -> Object:
        if status == (job.get("status") or {}):
            return job
        made = await self.client.update(JOBS, {**job, "status": status}, subresource="status")
        self.written.note(made)
        return made

    async def _release(self, key: str, pods: tuple[Object, ...]) -> set[str]:
        """Remove the finalizer of pods; returns the uids of those without it now. Raises the first error."""
        results = await asyncio.gather(*(untrack(self.client, pod) for pod in pods), return_exceptions=True)
        released = {uid_of(p) for p, r in zip(pods, results, strict=True) if not isinstance(r, BaseException)}
        if released:
            self.untracked.setdefault(key, set()).update(released)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return released

    def _untracked(self, key: str) -> set[str]:
        """The uids whose removal the cache does not show yet; what it shows is forgotten."""
        known = self.untracked.get(key)
        job = self.jobs.get(key)
        if not known or job is None:
            return set()
        shown = {uid_of(p) for p in controlled(self.pods, job) if TRACKING in (p["metadata"].get("finalizers") or ())}
        known &= shown
        return known

    # -- pods --------------------------------------------------------------------------------------------------------

    async def _create(self, key: str, job: Object, plan: JobPlan, pods: list[Object]) -> tuple[int, Exception | None]:
        """Make pods; returns how many of them were not made, and the first error."""
        count = len(plan.create)
        per_index = job["spec"].get("backoffLimitPerIndex") is not None
        predecessors = last_failures(job, pods) if per_index else {}
        self.expected.expect(key, creations=count)
        reason = _creation_reason(job, plan)

        async def create(number: int) -> None:
            index = plan.create[number]
            predecessor = predecessors.get(index) if index is not None else None
            try:
                await self.control.create(make_pod(job, index, predecessor), job)
                metrics.JOB_PODS_CREATED.labels(reason, "succeeded").inc()
            except BaseException as exc:
                metrics.JOB_PODS_CREATED.labels(reason, "failed").inc()
                self.expected.created(key)
                if not (isinstance(exc, Exception) and namespace_terminates(exc)):
                    raise

        result = await slow_start(count, create)
        self.expected.created(key, result.skipped)
        return count - result.succeeded, result.error

    async def _delete(self, key: str, job: Object, plan: JobPlan) -> Exception | None:
        self.expected.expect(key, deletions=map(uid_of, plan.delete))

        async def delete(pod: Object) -> None:
            try:
                if plan.delete_uncounted:
                    await untrack(self.client, pod)
                    self.untracked.setdefault(key, set()).add(uid_of(pod))
                await self.control.delete(pod, job)
            except NotFound:
                self.expected.deleted(key, uid_of(pod))
            except BaseException:
                self.expected.deleted(key, uid_of(pod))
                raise

        results = await asyncio.gather(*map(delete, plan.delete), return_exceptions=True)
        return next((r for r in results if isinstance(r, Exception)), None)


@dataclass
class _Measured:
    action: str = ""
    """What one step did; "" if there was nothing to look at."""


def _mode(job: Object) -> str:
    return str(job["spec"].get("completionMode") or "NonIndexed")


def _creation_reason(job: Object, plan: JobPlan) -> str:
    """Why pods are made: because others ended, or for the first time."""
    counts = {name: int(plan.status.get(name) or 0) for name in ("failed", "terminating")}
    if job["spec"].get("podReplacementPolicy") == "Failed":
        return "recreate_failed" if counts["failed"] else "new"
    return "recreate_terminating_or_failed" if any(counts.values()) else "new"


async def untrack(client: Client, pod: Object) -> None:
    """Remove the tracking finalizer, so that the pod can go."""
    if TRACKING not in (pod["metadata"].get("finalizers") or ()):
        return
    metadata = {"uid": uid_of(pod), "$deleteFromPrimitiveList/finalizers": [TRACKING]}
    try:
        await client.patch(PODS, name_of(pod), {"metadata": metadata}, namespace_of(pod), content_type=STRATEGIC)
    except NotFound:
        return


def _noted(status: Object) -> set[str]:
    uncounted = status.get("uncountedTerminatedPods") or {}
    return {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}


def _lower(status: Object, missing: int) -> None:
    """The active pods are fewer by those that could not be made."""
    active = int(status.pop("active", 0)) - missing
    if active > 0:
        status["active"] = active


@dataclass(frozen=True)
class StrayPods:
    """Pods that wait to be counted by a Job that is gone, or that has ended: their finalizer goes."""

    jobs: Informer
    pods: Informer
    client: Client

    async def reconcile(self, key: str) -> float | None:
        """One pod."""
        pod = self.pods.get(key)
        if pod is None or TRACKING not in (pod["metadata"].get("finalizers") or ()):
            return None
        known = resolve(self.jobs, JOBS, pod)
        if known is not None and not is_finished(known):
            return None
        reference = controller_of(pod)
        if reference is not None and reference.get("kind") == JOBS.kind:
            try:
                job = await self.client.get(JOBS, str(reference["name"]), namespace_of(pod))
            except NotFound:
                job = None
            if job is not None and uid_of(job) == reference.get("uid") and not is_finished(job):
                return None
        await untrack(self.client, pod)
        return None


def build(env: Environment) -> list[Controller]:
    """The controller of Jobs."""
    client = env.client_for(ACCOUNT)
    jobs, pods = env.informer(JOBS), env.informer(PODS)
    recorder = env.recorder(ACCOUNT, ACCOUNT)
    expected = Expectations(env.clock)
    reconciler = JobReconciler(
        jobs=jobs,
        pods=pods,
        client=client,
        control=PodControl(client, recorder),
        claimer=Claimer(client, JOBS, PODS),
        recorder=recorder,
        expected=expected,
        clock=env.clock,
    )
    controller = Controller("job", reconciler.reconcile, workers=env.options.concurrent("job"))
    strays = Controller("job_orphan_pod", StrayPods(jobs, pods, client).reconcile, workers=1)

    def job_changed(old: Object | None, new: Object | None) -> None:
        job = new or old or {}
        controller.enqueue(key_of(job))
        manager = job["spec"].get("managedBy", MANAGER)
        if old is None and manager != MANAGER:
            metrics.JOBS_ELSEWHERE.labels(manager).inc()
        if new is None or (is_finished(new) and old is not None and not is_finished(old)):
            for pod in controlled(pods, job):
                strays.enqueue(key_of(pod))

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is None or TRACKING not in (new["metadata"].get("finalizers") or ()):
            return
        job = resolve(jobs, JOBS, new)
        if job is None or is_finished(job):
            strays.enqueue(key_of(new))

    jobs.on_change(job_changed)
    follow(pods, jobs, JOBS, controller.enqueue, expectations=expected)
    pods.on_change(pod_changed)
    return [controller, strays]
