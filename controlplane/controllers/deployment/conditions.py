"""What a Deployment's status says: counts, and the conditions Available, Progressing and ReplicaFailure.

Pure functions.  `kubectl rollout status` reads what is written here.

Source: k8s.io/kubernetes/pkg/controller/deployment/progress.go, sync.go; KEP-3973 (terminatingReplicas).
"""

from __future__ import annotations

from datetime import datetime

from controlplane.controllers.deployment.sets import (
    Fleet,
    has_deadline,
    max_unavailable,
    replicas_of,
    status_count,
    total_replicas,
    total_status,
)
from machinery.api.meta import Object, condition, format_time, name_of, parse_time

PROGRESSING = "Progressing"
TIMED_OUT = "ProgressDeadlineExceeded"
NEW_AVAILABLE = "NewReplicaSetAvailable"
PAUSED = "DeploymentPaused"


def make(kind: str, status: str, reason: str, message: str, now: datetime) -> Object:
    """A new condition."""
    stamp = format_time(now)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def put(conditions: list[Object], new: Object) -> list[Object]:
    """The conditions with `new`; one of the same status and reason stands as it is."""
    old = condition(conditions, new["type"])
    if old is not None and old["status"] == new["status"] and old.get("reason") == new["reason"]:
        return conditions
    if old is not None and old["status"] == new["status"]:
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime", new["lastTransitionTime"])}
    return [*without(conditions, new["type"]), new]


def without(conditions: list[Object], kind: str) -> list[Object]:
    """The conditions but the one of this type."""
    return [c for c in conditions if c["type"] != kind]


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether all replicas are of the new template and available, and nothing of the old is left."""
    desired = replicas_of(deployment)
    return all(
        (status.get(name) or 0) == desired for name in ("updatedReplicas", "replicas", "availableReplicas")
    ) and (status.get("observedGeneration") or 0) >= deployment["metadata"].get("generation", 0)


def counts(deployment: Object, fleet: Fleet, conditions: list[Object], now: datetime) -> Object:
    """A fresh status from the ReplicaSets' ones, with the Available condition."""
    sets = fleet.all
    available = total_status(sets, "availableReplicas")
    status: Object = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    numbers = {
        "replicas": total_status(sets, "replicas"),
        "updatedReplicas": status_count(fleet.new, "replicas") if fleet.new is not None else 0,
        "readyReplicas": total_status(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(sets) - available),
    }
    status |= {name: number for name, number in numbers.items() if number}
    # Each set that its controller has looked at must tell, or the sum would be too small.
    synced = [s for rs in sets if (s := rs.get("status") or {}).get("observedGeneration")]
    if all("terminatingReplicas" in s for s in synced):
        status["terminatingReplicas"] = sum(s["terminatingReplicas"] for s in synced)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions is not None:
        status["collisionCount"] = collisions
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        verdict = make("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        verdict = make(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    status["conditions"] = put(conditions, verdict)
    return status


def rollout(deployment: Object, fleet: Fleet, conditions: list[Object], now: datetime) -> Object:
    """A fresh status that also tells whether the rollout progresses, is complete, or is stuck."""
    status = counts(deployment, fleet, conditions, now)
    conditions = status["conditions"]
    if not has_deadline(deployment):
        conditions = without(conditions, PROGRESSING)
    current = condition(conditions, PROGRESSING)
    # Nothing is rolled out once it was complete: more replicas or a lost pod are not progress or lack of it.
    settled = (
        (status.get("replicas") or 0) == (status.get("updatedReplicas") or 0)
        and current is not None
        and current.get("reason") == NEW_AVAILABLE
    )
    if has_deadline(deployment) and not settled:
        subject = f'ReplicaSet "{name_of(fleet.new)}"' if fleet.new else f'Deployment "{name_of(deployment)}"'
        if is_complete(deployment, status):
            told = make(PROGRESSING, "True", NEW_AVAILABLE, f"{subject} has successfully progressed.", now)
            conditions = put(conditions, told)
        elif _progressed(deployment.get("status") or {}, status):
            told = make(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
            if current is not None:
                if current["status"] == "True":
                    told["lastTransitionTime"] = current.get("lastTransitionTime", told["lastTransitionTime"])
                conditions = without(conditions, PROGRESSING)  # so that lastUpdateTime moves
            conditions = put(conditions, told)
        elif timed_out(deployment, conditions, now):
            told = make(PROGRESSING, "False", TIMED_OUT, f"{subject} has timed out progressing.", now)
            conditions = put(conditions, told)
    failure = _replica_failure(fleet)
    status["conditions"] = put(conditions, failure) if failure else without(conditions, "ReplicaFailure")
    return status


def _progressed(old: Object, new: Object) -> bool:
    def count(status: Object, name: str) -> int:
        return int(status.get(name) or 0)

    return (
        count(new, "updatedReplicas") > count(old, "updatedReplicas")
        or count(new, "replicas") - count(new, "updatedReplicas")
        < count(old, "replicas") - count(old, "updatedReplicas")
        or count(new, "readyReplicas") > count(old, "readyReplicas")
        or count(new, "availableReplicas") > count(old, "availableReplicas")
    )


def timed_out(deployment: Object, conditions: list[Object], now: datetime) -> bool:
    """Whether there has been no progress for longer than the deadline."""
    current = condition(conditions, PROGRESSING)
    if not has_deadline(deployment) or current is None or current.get("reason") == NEW_AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    since = parse_time(current["lastUpdateTime"])
    return (now - since).total_seconds() > int(deployment["spec"]["progressDeadlineSeconds"])


def seconds_to_deadline(deployment: Object, status: Object, now: datetime) -> float | None:
    """When to look again whether progress has been made; None if nothing is awaited."""
    current = condition(status.get("conditions"), PROGRESSING)
    if not has_deadline(deployment) or current is None:
        return None
    if is_complete(deployment, status) or current.get("reason") == TIMED_OUT:
        return None
    waited = (now - parse_time(current["lastUpdateTime"])).total_seconds()
    return max(1.0, float(deployment["spec"]["progressDeadlineSeconds"]) - waited + 1.0)


def paused(deployment: Object, conditions: list[Object], now: datetime) -> list[Object]:
    """The conditions with pausing or resuming noted, so that a pause does not count as lack of progress."""
    current = condition(conditions, PROGRESSING)
    if not has_deadline(deployment) or (current is not None and current.get("reason") == TIMED_OUT):
        return conditions
    noted = current is not None and current.get("reason") == PAUSED
    if deployment["spec"].get("paused") and not noted:
        return put(conditions, make(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now))
    if not deployment["spec"].get("paused") and noted:
        return put(conditions, make(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now))
    return conditions


def _replica_failure(fleet: Fleet) -> Object | None:
    """The new ReplicaSet's failure to make pods, else an old one's."""
    sets = ([fleet.new] if fleet.new is not None else []) + list(fleet.old)
    for rs in sets:
        found = condition((rs.get("status") or {}).get("conditions"), "ReplicaFailure")
        if found is not None:
            copied: Object = {k: found[k] for k in ("type", "status", "reason", "message") if k in found}
            stamp = found.get("lastTransitionTime")
            return {**copied, "lastUpdateTime": stamp, "lastTransitionTime": stamp}
    return None
