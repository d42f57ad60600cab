"""Counting a Job's pods: what is active, what ended, what of that is already in the status. Pure functions.

A pod carries a finalizer until its end is counted; the uids of pods that ended are first written to
status.uncountedTerminatedPods, then their finalizers go, then they move into the counts.  Thus each is counted once.

Source: KEP-2307; k8s.io/kubernetes/pkg/controller/job/job_controller.go.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controlplane.controllers.job.indexes import (
    FAILURES_ANNOTATION,
    IGNORED_ANNOTATION,
    index_of,
    number_annotation,
    parse_indexes,
)
from controlplane.controllers.job.policies import FAIL_INDEX, FAIL_JOB, judge_failure
from controlplane.controllers.pods import is_active, is_ready, is_terminating, phase_of, pod_condition
from machinery.api.meta import Object, is_deleting, parse_time, uid_of

TRACKING = "batch.kubernetes.io/job-tracking"
_BACKOFF_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 600.0


def is_indexed(job: Object) -> bool:
    """Whether each completion has an index of its own."""
    return str(job["spec"].get("completionMode") or "") == "Indexed"


def replaces_only_failed(job: Object) -> bool:
    """Whether a pod being deleted is replaced only once it has ended."""
    policy = job["spec"].get("podReplacementPolicy")
    return str(policy) == "Failed" if policy else bool(job["spec"].get("podFailurePolicy"))


def has_failed(job: Object, pod: Object) -> bool:
    """Whether the run is over without success; a pod being deleted counts, unless only failed ones are replaced."""
    phase = phase_of(pod)
    if phase == "Failed":
        return True
    return is_deleting(pod) and phase != "Succeeded" and not replaces_only_failed(job)


def is_tracked(pod: Object, untracked: frozenset[str] = frozenset()) -> bool:
    """Whether the pod still carries the finalizer; `untracked` are those whose removal the cache may not show yet."""
    return TRACKING in (pod["metadata"].get("finalizers") or ()) and uid_of(pod) not in untracked


def ended_at(pod: Object) -> datetime | None:
    """When the last container of the pod ended, else when it ceased to be ready or its deletion was asked for.

    Source: k8s.io/kubernetes/pkg/controller/job/backoff_utils.go, "getFinishedTime".
    """
    status, metadata = pod.get("status") or {}, pod["metadata"]
    containers = status.get("containerStatuses") or ()
    ends = [((c.get("state") or {}).get("terminated") or {}).get("finishedAt") or "" for c in containers]
    if ends and all(ends):
        return max(map(parse_time, ends))
    ready = pod_condition(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    if is_deleting(pod):
        grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
        return parse_time(metadata["deletionTimestamp"]) - grace
    created = metadata.get("creationTimestamp")
    return parse_time(created) if created and phase_of(pod) in ("Succeeded", "Failed") else None


def has_valid_index(job: Object, pod: Object) -> bool:
    """Whether the pod's end can count: of an Indexed Job only that of an index below the completions."""
    if not is_indexed(job):
        return True
    index = index_of(pod)
    return index is not None and index < int(job["spec"].get("completions") or 0)


@dataclass(frozen=True)
class Tally:
    """A Job's pods, sorted."""

    active: list[Object] = field(default_factory=list)
    terminating: int = 0
    ready: int = 0
    new_succeeded: list[Object] = field(default_factory=list)
    """Ended, and neither counted nor noted as uncounted."""

    new_failed: list[Object] = field(default_factory=list)
    uncounted_succeeded: frozenset[str] = frozenset()
    uncounted_failed: frozenset[str] = frozenset()
    succeeded: int = 0
    """All successes, noted or new."""

    failed: int = 0
    """All failures that count, noted or new."""

    succeeded_indexes: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] = frozenset()
    fail_job: str = ""
    """Why podFailurePolicy ends the Job, if it does."""


def tally(job: Object, pods: list[Object], untracked: frozenset[str]) -> Tally:
    """Sort a Job's pods."""
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    noted_ok, noted_bad = frozenset(uncounted.get("succeeded") or ()), frozenset(uncounted.get("failed") or ())
    noted = noted_ok | noted_bad
    completions = int(job["spec"].get("completions") or 0)
    tracked = [p for p in pods if is_tracked(p, untracked) and uid_of(p) not in noted]
    fresh_ok = [p for p in tracked if phase_of(p) == "Succeeded" and has_valid_index(job, p)]
    fresh_bad = [p for p in tracked if has_failed(job, p) and has_valid_index(job, p)]
    verdicts = {uid_of(p): judge_failure(job, p) for p in fresh_bad}
    fail_job = next((v.message for v in verdicts.values() if v.action == FAIL_JOB), "")
    active = [p for p in pods if is_active(p)]
    counted_bad = sum(v.counts for v in verdicts.values())
    succeeded_indexes: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] = frozenset()
    succeeded = int(status.get("succeeded") or 0) + len(noted_ok) + len(fresh_ok)
    if is_indexed(job):
        done = parse_indexes(status.get("completedIndexes"), completions)
        done |= {i for p in fresh_ok if (i := index_of(p)) is not None}
        succeeded_indexes, succeeded = frozenset(done), len(done)
        failed_indexes = frozenset(
            parse_indexes(status.get("failedIndexes"), completions) | _newly_failed(job, fresh_bad) - done
        )
    return Tally(
        active=active,
        terminating=sum(map(is_terminating, pods)),
        ready=sum(map(is_ready, active)),
        new_succeeded=fresh_ok,
        new_failed=fresh_bad,
        uncounted_succeeded=noted_ok,
        uncounted_failed=noted_bad,
        succeeded=succeeded,
        failed=int(status.get("failed") or 0) + len(noted_bad) + counted_bad,
        succeeded_indexes=succeeded_indexes,
        failed_indexes=failed_indexes,
        fail_job=fail_job,
    )


def _newly_failed(job: Object, failed: list[Object]) -> set[int]:
    """Indexes that have used up backoffLimitPerIndex, or that a FailIndex rule gives up."""
    limit = job["spec"].get("backoffLimitPerIndex")
    if limit is None:
        return set()
    found = set()
    for pod in failed:
        index = index_of(pod)
        if index is not None and (
            index_failures(job, pod)[0] > int(limit) or judge_failure(job, pod).action == FAIL_INDEX
        ):
            found.add(index)
    return found


def index_failures(job: Object, pod: Object) -> tuple[int, int]:
    """How often the index of a failed pod has failed, this pod included: (failures that count, ignored ones)."""
    counts = judge_failure(job, pod).counts
    return (
        number_annotation(pod, FAILURES_ANNOTATION) + counts,
        number_annotation(pod, IGNORED_ANNOTATION) + (not counts),
    )


def last_failures(job: Object, pods: list[Object]) -> dict[int, Object]:
    """For each index the failed pod that knows most failures, the last of those (backoffLimitPerIndex)."""
    by_index: dict[int, list[Object]] = defaultdict(list)
    for pod in pods:
        index = index_of(pod)
        if index is not None and has_failed(job, pod):
            by_index[index].append(pod)

    def knowledge(pod: Object) -> tuple[int, datetime]:
        return sum(index_failures(job, pod)), ended_at(pod) or datetime.min.replace(tzinfo=UTC)

    return {index: max(found, key=knowledge) for index, found in by_index.items()}


def backoff_seconds(failures: int, last: datetime | None, now: datetime) -> float:
    """How long to wait before the next pod: 10 s after the first failure, doubled with each, 10 min at most."""
    if failures <= 0 or last is None:
        return 0.0
    pause = min(_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), _LONGEST_BACKOFF_SECONDS)
    return max(0.0, pause - (now - last).total_seconds())


def failures_in_a_row(job: Object, pods: list[Object]) -> tuple[int, datetime | None]:
    """(failures since the last success, when the last was), of the pods that there still are; ignored ones, too."""
    ends = [(ended_at(p), p) for p in pods]
    last_success = max((t for t, p in ends if t is not None and phase_of(p) == "Succeeded"), default=None)
    failures = [
        t for t, p in ends if t is not None and has_failed(job, p) and (last_success is None or t > last_success)
    ]
    return len(failures), max(failures, default=None)


def restarts_used_up(job: Object, pods: list[Object]) -> bool:
    """restartPolicy OnFailure: whether the containers' restarts have reached backoffLimit."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = 0
    for pod in pods:
        if phase_of(pod) in ("Running", "Pending"):
            status = pod.get("status") or {}
            for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
                restarts += int(container.get("restartCount") or 0)
    limit = backoff_limit(job)
    return restarts > 0 if limit == 0 else restarts >= limit


def backoff_limit(job: Object) -> int:
    """spec.backoffLimit, as the API defaults it."""
    limit = job["spec"].get("backoffLimit")
    if limit is not None:
        return int(limit)
    return 6 if job["spec"].get("backoffLimitPerIndex") is None else 2**31 - 1
