"""What to do about a CronJob now. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/cronjob/{cronjob_controllerv2,utils}.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from controlplane.controllers.cronjob.schedule import Schedule, latest, parse
from controlplane.controllers.job.status import FINISHED
from machinery.api.catalogue import CRONJOBS
from machinery.api.meta import (
    Object,
    condition,
    format_time,
    is_deleting,
    name_of,
    namespace_of,
    owner_reference,
    parse_time,
    uid_of,
)

SCHEDULED_ANNOTATION = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_SKEW_SECONDS = 0.1
_MANY = 100


@dataclass
class CronPlan:
    """One reconcile of a CronJob."""

    start: datetime | None = None
    """The scheduled time of a Job to create."""

    replace: list[Object] = field(default_factory=list)
    """References to active Jobs that the new one takes the place of."""

    cleanup: list[Object] = field(default_factory=list)
    """Finished Jobs beyond the history limits."""

    missing: list[Object] = field(default_factory=list)
    """References to active Jobs that the cache does not have."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    wait_seconds: float | None = None


def finished_as(job: Object) -> str:
    """Complete, Failed, or "" for a Job that is under way."""
    conditions = (job.get("status") or {}).get("conditions")
    for kind in FINISHED:
        found = condition(conditions, kind)
        if found is not None and found["status"] == "True":
            return kind
    return ""


def schedule_of(cron: Object) -> Schedule:
    """The schedule, by the clocks of spec.timeZone. Raises ValueError, and KeyError for an unknown time zone."""
    spec = cron["spec"]
    zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
    return parse(spec["schedule"], zone)


def plan_cron(cron: Object, jobs: list[Object], now: datetime) -> CronPlan:
    """Plan one reconcile of a CronJob that controls `jobs`."""
    plan = CronPlan(status=dict(cron.get("status") or {}))
    _account(cron, jobs, plan)
    if is_deleting(cron):
        return plan
    plan.cleanup = surplus_jobs(cron, jobs)
    spec = cron["spec"]
    try:
        schedule = schedule_of(cron)
    except (ZoneInfoNotFoundError, IsADirectoryError):
        told = f'invalid timeZone: "{spec["timeZone"]}": unknown time zone {spec["timeZone"]}'
        plan.events.append(("Warning", "UnknownTimeZone", told))
        return plan
    except ValueError as exc:
        plan.events.append(("Warning", "UnparseableSchedule", f'unparseable schedule: "{spec["schedule"]}" : {exc}'))
        return plan
    if spec.get("suspend"):
        return plan
    _decide(cron, schedule, plan, now)
    following = schedule.next(now)
    if following is not None:
        plan.wait_seconds = (following - now).total_seconds() + _SKEW_SECONDS
    return plan


def _account(cron: Object, jobs: list[Object], plan: CronPlan) -> None:
    """Bring status.active and lastSuccessfulTime up to date."""
    active = list(plan.status.get("active") or ())
    known = {uid_of(job): job for job in jobs}
    listed = {ref.get("uid") for ref in active}
    newest = plan.status.get("lastSuccessfulTime")
    for uid, job in known.items():
        end = finished_as(job)
        if not end and uid not in listed:
            told = f"Saw a job that the controller did not create or forgot: {name_of(job)}"
            plan.events.append(("Warning", "UnexpectedJob", told))
        elif end and uid in listed:
            active = [ref for ref in active if ref.get("uid") != uid]
            told = f"Saw completed job: {name_of(job)}, condition: {end}"
            plan.events.append(("Normal", "SawCompletedJob", told))
        if end == "Complete":
            completed = (job.get("status") or {}).get("completionTime")
            if completed and (not newest or parse_time(completed) > parse_time(newest)):
                newest = completed
    plan.missing = [ref for ref in active if ref.get("uid") not in known]
    if newest:
        plan.status["lastSuccessfulTime"] = newest
    set_active(plan.status, active)


def set_active(status: Object, active: list[Object]) -> None:
    """Write status.active, which is not there when it is empty."""
    status.pop("active", None)
    if active:
        status["active"] = active


def _decide(cron: Object, schedule: Schedule, plan: CronPlan, now: datetime) -> None:
    spec = cron["spec"]
    last = plan.status.get("lastScheduleTime")
    since = parse_time(last or cron["metadata"]["creationTimestamp"])
    deadline = spec.get("startingDeadlineSeconds")
    horizon = since if deadline is None else max(since, now - timedelta(seconds=int(deadline)))
    due = latest(schedule, horizon, now)
    if due is None:
        if deadline is not None and (missed := latest(schedule, since, now)) is not None:
            told = f"Missed scheduled time to start a job: {missed:%a, %d %b %Y %H:%M:%S +0000}"
            plan.events.append(("Warning", "MissSchedule", told))
        return
    if _missed(schedule, horizon, due) > _MANY:
        told = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        plan.events.append(("Warning", "TooManyMissedTimes", told))
    active = plan.status.get("active") or []
    if any(ref.get("name") == job_name(cron, due) for ref in active) or (last and parse_time(last) == due):
        return
    policy = spec.get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        told = "Not starting job because prior execution is running and concurrency policy is Forbid"
        plan.events.append(("Normal", "JobAlreadyActive", told))
        return
    if policy == "Replace":
        plan.replace = list(active)
    plan.start = due


def _missed(schedule: Schedule, since: datetime, due: datetime) -> int:
    """About how many times lie between, judged by the first pause."""
    first = schedule.next(since)
    second = schedule.next(first) if first is not None else None
    if first is None or second is None or second <= first:
        return 0
    return int((due - first) / (second - first)) + 1


def job_name(cron: Object, scheduled: datetime) -> str:
    """The name of the Job of a scheduled time: the same for every look at it, so that it is made once."""
    return f"{name_of(cron)}-{int(scheduled.timestamp()) // 60}"


def make_job(cron: Object, scheduled: datetime) -> Object:
    """The Job of a scheduled time."""
    template = cron["spec"]["jobTemplate"]
    described = template.get("metadata") or {}
    zone = ZoneInfo(cron["spec"]["timeZone"]) if cron["spec"].get("timeZone") else UTC
    stamp = scheduled.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    metadata: Object = {
        "name": job_name(cron, scheduled),
        "namespace": namespace_of(cron),
        "annotations": {**(described.get("annotations") or {}), SCHEDULED_ANNOTATION: stamp},
        "ownerReferences": [owner_reference(cron, CRONJOBS)],
    }
    if described.get("labels"):
        metadata["labels"] = dict(described["labels"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.get("spec") or {}}


def reference_to(job: Object) -> Object:
    """The entry of status.active."""
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "name": name_of(job),
        "namespace": namespace_of(job),
        "uid": uid_of(job),
        "resourceVersion": job["metadata"].get("resourceVersion", ""),
    }


def started(status: Object, job: Object, scheduled: datetime) -> Object:
    """The status with a Job just made."""
    active = [*(status.get("active") or ()), reference_to(job)]
    return {**status, "active": active, "lastScheduleTime": format_time(scheduled)}


def surplus_jobs(cron: Object, jobs: Iterable[Object]) -> list[Object]:
    """Finished Jobs beyond successfulJobsHistoryLimit and failedJobsHistoryLimit, oldest first."""
    limits = {
        "Complete": cron["spec"].get("successfulJobsHistoryLimit"),
        "Failed": cron["spec"].get("failedJobsHistoryLimit"),
    }
    found = []
    for kind, limit in limits.items():
        if limit is None:
            continue
        ended = [job for job in jobs if finished_as(job) == kind and not is_deleting(job)]
        ended.sort(key=lambda job: ((job.get("status") or {}).get("startTime") or "", name_of(job)))
        found += ended[: max(0, len(ended) - int(limit))]
    return found
