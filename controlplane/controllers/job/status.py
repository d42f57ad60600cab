"""A Job's status: conditions, counts, and how ends move from noted to counted. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/job/job_controller.go, "trackJobStatusAndRemoveFinalizers".
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.controllers.job.indexes import format_indexes, parse_indexes
from controlplane.controllers.job.tally import Tally, is_indexed
from machinery.api.meta import Object, condition, format_time, uid_of

FINISHED = ("Complete", "Failed")


def is_finished(job: Object) -> bool:
    """Whether the Job has a terminal condition."""
    conditions = (job.get("status") or {}).get("conditions")
    return any((c := condition(conditions, kind)) is not None and c["status"] == "True" for kind in FINISHED)


def make_condition(kind: str, reason: str, message: str, now: datetime, status: str = "True") -> Object:
    """A new condition."""
    stamp = format_time(now)
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def write_counts(
    status: dict[str, Any], job: Object, counted: Tally, succeeded: list[Object], failed: list[Object]
) -> None:
    """Note the ends of pods as uncounted; the successes of an Indexed Job are told by their indexes."""
    noted_ok, noted_bad = sorted(counted.uncounted_succeeded), sorted(counted.uncounted_failed)
    noted_bad += map(uid_of, failed)
    if is_indexed(job):
        done = format_indexes(counted.succeeded_indexes)
        if done:
            status |= {"completedIndexes": done, "succeeded": len(counted.succeeded_indexes)}
        if job["spec"].get("backoffLimitPerIndex") is not None:
            status["failedIndexes"] = format_indexes(counted.failed_indexes)
    else:
        noted_ok += map(uid_of, succeeded)
    noted = {"succeeded": noted_ok, "failed": noted_bad}
    status["uncountedTerminatedPods"] = {name: uids for name, uids in noted.items() if uids}


def count_up(status: Object, job: Object, released: set[str]) -> Object:
    """The status with the pods whose finalizer is gone moved from uncounted into the counts."""
    uncounted = status.get("uncountedTerminatedPods") or {}
    made = {**status}
    counted = {name: [u for u in uncounted.get(name) or () if u in released] for name in ("succeeded", "failed")}
    if is_indexed(job):
        completions = int(job["spec"].get("completions") or 0)
        succeeded = len(parse_indexes(status.get("completedIndexes"), completions))
    else:
        succeeded = int(status.get("succeeded") or 0) + len(counted["succeeded"])
    failed = int(status.get("failed") or 0) + len(counted["failed"])
    made |= {name: number for name, number in (("succeeded", succeeded), ("failed", failed)) if number}
    made["uncountedTerminatedPods"] = {
        name: left for name in counted if (left := [u for u in uncounted.get(name) or () if u not in released])
    }
    return made


def finished(status: Object, terminal: Object, now: datetime) -> Object:
    """The status with its terminal condition."""
    made = {**status, "conditions": [*(status.get("conditions") or ()), terminal]}
    if terminal["type"] == "Complete":
        made["completionTime"] = format_time(now)
    return made
