"""What to do about a StatefulSet now. Pure functions.

With OrderedReady (monotonic) one thing happens at a time: a pod is made when all before it are available, and deleted
when all after it are gone; scaling comes before updating.

Source: k8s.io/kubernetes/pkg/controller/statefulset/stateful_set_control.go; KEP-961 (maxUnavailable).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controlplane.controllers.pods import is_available, is_ready, phase_of
from controlplane.controllers.revisions import revision_label
from controlplane.controllers.statefulset.identity import (
    identity_matches,
    in_range,
    make_pod,
    ordinal_of,
    replicas_of,
    start_ordinal,
    with_labels,
)
from machinery.api.intstr import scaled
from machinery.api.meta import Object, is_deleting, name_of, uid_of


@dataclass
class SetPlan:
    """The writes of one reconcile."""

    create: list[Object] = field(default_factory=list)
    """Pods to make, after their claims."""

    update: list[Object] = field(default_factory=list)
    """Pods whose labels must be mended."""

    delete: list[Object] = field(default_factory=list)
    need_claims: list[Object] = field(default_factory=list)
    """Pending pods, whose claims may be missing."""

    status: Object = field(default_factory=dict)


def is_created(pod: Object) -> bool:
    """Whether the pod exists."""
    return bool(uid_of(pod))


def is_running_ready(pod: Object) -> bool:
    """Running and Ready."""
    return phase_of(pod) == "Running" and is_ready(pod)


def plan_set(
    owner: Object, current: Object, update: Object, collisions: int, pods: list[Object], now: datetime
) -> SetPlan:
    """Plan one step. `current` and `update` are the revisions that pods have and are to have."""
    plan = SetPlan()
    replicas, condemned = _sort_out(owner, current, update, pods)
    if not is_deleting(owner):
        _step(owner, update, replicas, condemned, plan, now)
    plan.status = _status(owner, current, update, collisions, pods, plan, now)
    return plan


def _sort_out(owner: Object, current: Object, update: Object, pods: list[Object]) -> tuple[list[Object], list[Object]]:
    """(the pod of each ordinal wanted, existing or to be made; existing ones beyond, highest ordinal first)."""
    by_ordinal = {ordinal_of(pod): pod for pod in pods}
    start = start_ordinal(owner)
    replicas = []
    for ordinal in range(start, start + replicas_of(owner)):
        pod = by_ordinal.get(ordinal)
        if pod is None:
            revision = current if _keeps_current(owner, ordinal) else update
            pod = make_pod(owner, revision, ordinal)
        replicas.append(pod)
    condemned = [p for p in pods if ordinal_of(p) >= 0 and not in_range(owner, ordinal_of(p))]
    return replicas, sorted(condemned, key=ordinal_of, reverse=True)


def _keeps_current(owner: Object, ordinal: int) -> bool:
    """Whether a pod made anew still gets the old template."""
    strategy = owner["spec"].get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        held = int((owner.get("status") or {}).get("currentReplicas") or 0)
        return strategy.get("type", "RollingUpdate") == "RollingUpdate" and ordinal < start_ordinal(owner) + held
    return ordinal < start_ordinal(owner) + int(rolling.get("partition") or 0)


def _step(
    owner: Object, update: Object, replicas: list[Object], condemned: list[Object], plan: SetPlan, now: datetime
) -> None:
    min_ready = int(owner["spec"].get("minReadySeconds") or 0)
    ordered = owner["spec"].get("podManagementPolicy", "OrderedReady") != "Parallel"

    def unavailable(pod: Object) -> bool:
        return not is_created(pod) or not is_running_ready(pod) or not is_available(pod, min_ready, now)

    for pod in replicas:
        if _tend(owner, pod, plan) and ordered:
            return
        if ordered and (is_deleting(pod) or unavailable(pod)):
            return
    first_unavailable = next((p for p in [*replicas, *reversed(condemned)] if unavailable(p) or is_deleting(p)), None)
    for pod in condemned:
        if is_deleting(pod):
            if ordered:
                return
            continue
        if ordered and unavailable(pod) and pod is not first_unavailable:
            return
        plan.delete.append(pod)
        if ordered:
            return
    if condemned and ordered:
        return
    _roll(owner, update, replicas, plan, unavailable)


def _tend(owner: Object, pod: Object, plan: SetPlan) -> bool:
    """Make, replace or mend one pod; True if nothing more may happen now in an ordered set."""
    if not is_created(pod):
        plan.create.append(pod)
        return True
    if phase_of(pod) in ("Failed", "Succeeded"):
        # Whatever ended it, the pod is made again once it is gone.
        if not is_deleting(pod):
            plan.delete.append(pod)
        return True
    if phase_of(pod) == "Pending":
        plan.need_claims.append(pod)
    if not is_deleting(pod) and not identity_matches(owner, pod):
        plan.update.append(with_labels(pod, ordinal_of(pod)))
    return False


def _roll(
    owner: Object, update: Object, replicas: list[Object], plan: SetPlan, unavailable: Callable[[Object], bool]
) -> None:
    """Delete pods of an old template, highest ordinal first, as far as availability allows."""
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return
    rolling = strategy.get("rollingUpdate") or {}
    rolled = replicas[int(rolling.get("partition") or 0) :][::-1]
    limit: Any = rolling.get("maxUnavailable")

    def is_old(pod: Object) -> bool:
        staying = is_created(pod) and not is_deleting(pod) and pod not in plan.delete
        return staying and revision_label(pod) != name_of(update)

    if limit is None:
        # One at a time, and only those above it count; as upstream without the gate MaxUnavailableStatefulSet.
        for pod in rolled:
            if is_old(pod):
                plan.delete.append(pod)
                return
            if is_deleting(pod) or unavailable(pod):
                return
        return
    down = sum(is_deleting(pod) or unavailable(pod) for pod in replicas)
    budget = max(1, scaled(limit, replicas_of(owner), round_up=True)) - down
    for pod in filter(is_old, rolled):
        if not unavailable(pod):
            if budget <= 0:
                continue  # one that is down already costs nothing, wherever it stands
            budget -= 1
        plan.delete.append(pod)


def _status(
    owner: Object,
    current: Object,
    update: Object,
    collisions: int,
    pods: Iterable[Object],
    plan: SetPlan,
    now: datetime,
) -> Object:
    old = owner.get("status") or {}
    min_ready = int(owner["spec"].get("minReadySeconds") or 0)
    existing = list(pods)  # those planned are counted when they are seen: a quota may forbid them
    leaving = {uid_of(pod) for pod in plan.delete if in_range(owner, ordinal_of(pod))}
    ready = [p for p in existing if is_created(p) and is_running_ready(p)]
    status: Object = {
        "observedGeneration": owner["metadata"].get("generation", 0),
        "replicas": len(existing),
        "availableReplicas": sum(is_available(p, min_ready, now) for p in ready),
        "currentRevision": name_of(current),
        "updateRevision": name_of(update),
        "collisionCount": collisions,
    }
    staying = [p for p in existing if not is_deleting(p)]
    of_current = [p for p in staying if revision_label(p) == name_of(current) and uid_of(p) not in leaving]
    of_update = [p for p in staying if revision_label(p) == name_of(update)]
    counts = {"readyReplicas": len(ready), "currentReplicas": len(of_current), "updatedReplicas": len(of_update)}
    wanted = replicas_of(owner)
    rolling = (owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and status["replicas"] == counts["readyReplicas"] == counts["updatedReplicas"] == wanted:
        counts["currentReplicas"] = counts["updatedReplicas"]
        status["currentRevision"] = name_of(update)
    status |= {name: count for name, count in counts.items() if count}
    if old.get("conditions"):
        status["conditions"] = old["conditions"]
    return status
