"""What to do about a Job now: which pods to make or delete, whose end to count, what to say. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/job/job_controller.go, "syncJob", "manageJob".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers.job.indexes import index_of
from controlplane.controllers.job.policies import judge_failure, judge_success
from controlplane.controllers.job.status import make_condition, write_counts
from controlplane.controllers.job.tally import (
    Tally,
    backoff_limit,
    backoff_seconds,
    ended_at,
    failures_in_a_row,
    has_valid_index,
    index_failures,
    is_indexed,
    is_tracked,
    last_failures,
    replaces_only_failed,
    restarts_used_up,
    tally,
)
from controlplane.controllers.pods import deletion_order, is_ready, is_terminating, phase_of
from controlplane.controllers.pods import is_finished as is_finished_pod
from machinery.api.meta import Object, condition, format_time, is_deleting, parse_time, uid_of

BURST = 500


@dataclass(frozen=True)
class JobPlan:
    """One reconcile of a Job."""

    status: Object
    """Written first: with the ends seen now noted as uncounted."""

    create: tuple[int | None, ...] = ()
    """A pod for each: its index, or None where pods have none."""

    delete: tuple[Object, ...] = ()
    delete_uncounted: bool = False
    """The pods to delete are surplus, not failures: their finalizer goes before they do."""

    release: tuple[Object, ...] = ()
    """Pods whose finalizer goes once their end is noted in the status."""

    events: tuple[tuple[str, str, str], ...] = ()
    """(type, reason, message)"""

    wait_seconds: float | None = None
    finish: Object | None = None
    """The terminal condition, to be written when nothing is left to count or to end."""


@dataclass
class _Draft:
    events: list[tuple[str, str, str]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    create: list[int | None] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan_job(
    job: Object, pods: list[Object], now: datetime, *, settled: bool = True, untracked: frozenset[str] = frozenset()
) -> JobPlan:
    """Plan one reconcile of a Job that is not finished and owns `pods`.

    `settled`: the cache shows all pods made and deleted before.  `untracked`: uids of pods whose finalizer was removed
    though the cache may not show it yet.
    """
    spec, status = job["spec"], dict(job.get("status") or {})
    counted = tally(job, pods, untracked)
    draft = _Draft()
    conditions = [dict(c) for c in status.get("conditions") or ()]
    suspended = bool(spec.get("suspend"))
    if not suspended and not status.get("startTime"):
        status["startTime"] = format_time(now)
    verdict = _verdict(job, status, pods, counted, draft, now)
    removed: list[Object] = []
    decided = verdict is not None
    if verdict is not None:
        removed = counted.active if settled else []
        draft.delete = list(removed)
    elif settled and not is_deleting(job):
        removed = _manage(job, pods, counted, draft, now)
        if _is_complete(job, counted, removed, draft.create):
            message = "Reached expected number of succeeded pods"
            verdict = make_condition("SuccessCriteriaMet", "CompletionsReached", message, now)
        else:
            _tell_suspension(conditions, status, draft, now, suspended=suspended)
    if verdict is not None and condition(conditions, verdict["type"]) is None:
        conditions.append(verdict)
    active = len(counted.active) - len(removed) + len(draft.create)
    terminating = counted.terminating + len(removed)
    ready = counted.ready - sum(map(is_ready, removed))
    held = _held_back(job, pods, counted) if verdict is None else set()
    new_ok = counted.new_succeeded[:BURST]
    new_bad = [p for p in counted.new_failed if uid_of(p) not in held][: BURST - len(new_ok)]
    ended = [uid_of(pod) for pod in (*new_ok, *new_bad)]
    others = _other_releases(job, pods, counted, untracked, held | set(ended), over=verdict is not None and settled)
    failures = [pod for pod in new_bad if judge_failure(job, pod).counts]
    if verdict is not None and verdict["type"] == "FailureTarget" and settled:
        failures += _cut_short(job, others, counted)
    status.pop("active", None)
    if active:
        status["active"] = active
    status["ready"], status["terminating"] = ready, terminating
    write_counts(status, job, counted, new_ok, failures)
    if conditions:
        status["conditions"] = conditions
    release = [*new_ok, *new_bad, *others]
    more_to_count = len(counted.new_succeeded) + len(counted.new_failed) - len(held) > len(new_ok) + len(new_bad)
    finish = None
    if verdict is not None and settled and active == 0 and terminating == 0 and not more_to_count:
        finish = _terminal(verdict, now)
    wait = min(draft.waits, default=None)
    return JobPlan(
        status=status,
        create=tuple(draft.create),
        delete=tuple(draft.delete),
        delete_uncounted=not decided,
        release=tuple(release),
        events=tuple(draft.events),
        wait_seconds=wait,
        finish=finish,
    )


# -- verdicts ------------------------------------------------------------------------------------------------------


def _verdict(
    job: Object, status: Object, pods: list[Object], counted: Tally, draft: _Draft, now: datetime
) -> Object | None:
    """FailureTarget or SuccessCriteriaMet, if the Job is decided."""
    spec = job["spec"]
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        standing = condition(status.get("conditions"), kind)
        if standing is not None and standing["status"] == "True":
            return standing

    def failure(reason: str, message: str) -> Object:
        return make_condition("FailureTarget", reason, message, now)

    if counted.fail_job:
        return failure("PodFailurePolicy", counted.fail_job)
    if counted.failed > backoff_limit(job) or restarts_used_up(job, pods):
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not spec.get("suspend"):
        rest = float(deadline) - (now - parse_time(status["startTime"])).total_seconds()
        if rest <= 0:
            return failure("DeadlineExceeded", "Job was active longer than specified deadline")
        draft.waits.append(rest)
    if not is_indexed(job):
        return None
    completions = int(spec.get("completions") or 0)
    if spec.get("backoffLimitPerIndex") is not None:
        most = spec.get("maxFailedIndexes")
        failed = len(counted.failed_indexes)
        if most is not None and failed > int(most):
            return failure(
                "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
            )
        if failed and failed + len(counted.succeeded_indexes) >= completions:
            return failure("FailedIndexes", "Job has failed indexes")
    if message := judge_success(job, set(counted.succeeded_indexes)):
        return make_condition("SuccessCriteriaMet", "SuccessPolicy", message, now)
    return None


def _is_complete(job: Object, counted: Tally, removed: list[Object], create: list[int | None]) -> bool:
    if len(counted.active) > len(removed) or create:
        return False
    completions = job["spec"].get("completions")
    if completions is None:
        return counted.succeeded > 0
    return counted.succeeded >= int(completions)


def _terminal(verdict: Object, now: datetime) -> Object:
    kind = "Failed" if verdict["type"] == "FailureTarget" else "Complete"
    return make_condition(kind, verdict.get("reason", ""), verdict.get("message", ""), now)


def _tell_suspension(
    conditions: list[Object], status: Object, draft: _Draft, now: datetime, *, suspended: bool
) -> None:
    standing = condition(conditions, "Suspended")
    if suspended and (standing is None or standing["status"] != "True"):
        told = make_condition("Suspended", "JobSuspended", "Job suspended", now)
        draft.events.append(("Normal", "Suspended", "Job suspended"))
        status.pop("startTime", None)
    elif not suspended and standing is not None and standing["status"] == "True":
        told = make_condition("Suspended", "JobResumed", "Job resumed", now, "False")
        draft.events.append(("Normal", "Resumed", "Job resumed"))
        status["startTime"] = format_time(now)
    else:
        return
    if standing is not None:
        standing.update(told)
    else:
        conditions.append(told)


# -- pods ----------------------------------------------------------------------------------------------------------


def _manage(job: Object, pods: list[Object], counted: Tally, draft: _Draft, now: datetime) -> list[Object]:
    """Decide what to make; returns what to delete."""
    spec = job["spec"]
    active = len(counted.active)
    if spec.get("suspend"):
        draft.delete = deletion_order(counted.active, now)[:BURST]
        return draft.delete
    parallelism = int(spec["parallelism"]) if spec.get("parallelism") is not None else 1
    completions = spec.get("completions")
    if completions is None:
        wanted = active if counted.succeeded > 0 else parallelism
    else:
        wanted = max(0, min(int(completions) - counted.succeeded - len(counted.failed_indexes), parallelism))
    surplus = _surplus(job, counted, max(0, active - wanted), now)[:BURST]
    if surplus:
        draft.delete = surplus
        return surplus
    room = wanted - active - (counted.terminating if replaces_only_failed(job) else 0)
    if room <= 0:
        return []
    if spec.get("backoffLimitPerIndex") is None:
        pause = backoff_seconds(*failures_in_a_row(job, pods), now)
        if pause > 0:
            draft.waits.append(pause)
            return []
    room = min(room, BURST)
    draft.create = list(_next_indexes(job, pods, counted, room, draft, now)) if is_indexed(job) else [None] * room
    return []


def _surplus(job: Object, counted: Tally, count: int, now: datetime) -> list[Object]:
    """At least `count` active pods to delete; of an Indexed Job first those whose index is taken or out of range."""
    ordered = deletion_order(counted.active, now)
    if not is_indexed(job):
        return ordered[:count]
    by_index: dict[int, list[Object]] = defaultdict(list)
    doomed: list[Object] = []
    completions = int(job["spec"].get("completions") or 0)
    for pod in ordered:
        index = index_of(pod)
        if index is None or index >= completions:
            doomed.append(pod)
        else:
            by_index[index].append(pod)
    kept: list[Object] = []
    for index, same in by_index.items():
        gone = index in counted.succeeded_indexes or index in counted.failed_indexes
        doomed += same if gone else same[:-1]
        kept += [] if gone else same[-1:]
    chosen = {uid_of(pod) for pod in kept}
    more = [pod for pod in ordered if uid_of(pod) in chosen]
    return doomed + more[: max(0, count - len(doomed))]


def _next_indexes(
    job: Object, pods: list[Object], counted: Tally, room: int, draft: _Draft, now: datetime
) -> list[int]:
    """The lowest indexes that have neither succeeded nor failed for good nor a pod; some may have to wait."""
    busy = {index_of(pod) for pod in counted.active}
    if replaces_only_failed(job):
        busy |= {index_of(p) for p in pods if is_terminating(p)}
    per_index = job["spec"].get("backoffLimitPerIndex") is not None
    failures = last_failures(job, pods) if per_index else {}
    found: list[int] = []
    for index in range(int(job["spec"].get("completions") or 0)):
        if len(found) == room:
            break
        if index in busy or index in counted.succeeded_indexes or index in counted.failed_indexes:
            continue
        if index in failures:
            pause = backoff_seconds(sum(index_failures(job, failures[index])), ended_at(failures[index]), now)
            if pause > 0:
                draft.waits.append(pause)
                continue
        found.append(index)
    return found


def _held_back(job: Object, pods: list[Object], counted: Tally) -> set[str]:
    """uids of failed pods that alone know how often their index failed: kept until a successor knows it too."""
    if job["spec"].get("backoffLimitPerIndex") is None:
        return set()
    busy = {index_of(pod) for pod in counted.active}
    done = counted.succeeded_indexes | counted.failed_indexes
    return {
        uid_of(pod)
        for index, pod in last_failures(job, pods).items()
        if index not in busy and index not in done and uid_of(pod) not in counted.uncounted_failed
    }


def _other_releases(
    job: Object, pods: list[Object], counted: Tally, untracked: frozenset[str], kept: set[str], *, over: bool
) -> list[Object]:
    """Tracked pods (but those of the uids `kept`) whose end is noted already, or, when the Job is over, any."""
    noted = counted.uncounted_succeeded | counted.uncounted_failed
    live = {uid_of(p) for p in counted.active}
    return [
        pod
        for pod in pods
        if is_tracked(pod, untracked)
        and (uid := uid_of(pod)) not in kept
        and (over or uid in noted or is_finished_pod(pod) or (is_deleting(job) and uid not in live))
    ]


def _cut_short(job: Object, released: list[Object], counted: Tally) -> list[Object]:
    """Pods that a failed Job ends: whatever becomes of them, they count as failures."""
    noted = counted.uncounted_succeeded | counted.uncounted_failed
    return [
        pod
        for pod in released
        if phase_of(pod) != "Succeeded"
        and uid_of(pod) not in noted
        and has_valid_index(job, pod)
        and judge_failure(job, pod).counts
    ]
