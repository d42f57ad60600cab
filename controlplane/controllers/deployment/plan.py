"""What to do about a Deployment now: one pure step from its spec and its ReplicaSets to writes and a status.

Source: k8s.io/kubernetes/pkg/controller/deployment/{sync,rolling,recreate}.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers.deployment import conditions
from controlplane.controllers.deployment.sets import (
    MAX_REPLICAS,
    REVISION,
    Fleet,
    active,
    age_key,
    described,
    desired_annotation,
    has_deadline,
    is_rolling,
    max_surge,
    max_unavailable,
    new_set,
    new_set_replicas,
    next_revision,
    replicas_of,
    retired,
    sized,
    sort_out,
    status_count,
    total_replicas,
    total_status,
)
from machinery.api.meta import Object, annotations_of, condition, is_deleting, name_of


@dataclass(frozen=True)
class DeploymentPlan:
    """The writes of one reconcile, in this order: create, updates, deletes, status."""

    create: Object | None = None
    updates: tuple[Object, ...] = ()
    deletes: tuple[Object, ...] = ()
    events: tuple[tuple[str, str], ...] = ()
    """(reason, message) of Normal events."""
    revision: str | None = None
    """The Deployment's revision annotation, if it must change."""
    status: Object = field(default_factory=dict)


class _Step:
    """The state of one planning: the fleet as the writes planned so far make it."""

    def __init__(self, deployment: Object, sets: list[Object], now: datetime) -> None:
        self.deployment = deployment
        self.now = now
        self.before = {name_of(rs): rs for rs in sets}
        self.fleet = sort_out(deployment, sets)
        self.create: Object | None = None
        self.events: list[tuple[str, str]] = []
        self.revision: str | None = None
        self.conditions: list[Object] = list((deployment.get("status") or {}).get("conditions") or ())

    def sync_revision(self, *, create: bool) -> None:
        """Bring the new ReplicaSet's annotations up to date, or make it."""
        deadline = has_deadline(self.deployment)
        if self.fleet.new is not None:
            new = described(self.deployment, self.fleet.new, next_revision(self.fleet.old))
            min_ready = self.deployment["spec"].get("minReadySeconds") or 0
            if (new["spec"].get("minReadySeconds") or 0) != min_ready:
                new = {**new, "spec": {**new["spec"], "minReadySeconds": min_ready}}
            self.fleet = self.fleet.replaced(new)
            self._set_revision(new)
            if deadline and condition(self.conditions, conditions.PROGRESSING) is None:
                self._progress("FoundNewReplicaSet", f'Found new replica set "{name_of(new)}"')
        elif create:
            new = new_set(self.deployment, self.fleet)
            self.create = new
            self.fleet = Fleet(new, self.fleet.old)
            if replicas_of(new) > 0:
                message = f"Scaled up replica set {name_of(new)} from 0 to {replicas_of(new)}"
                self.events.append(("ScalingReplicaSet", message))
            self._set_revision(new)
            if deadline:
                self._progress("NewReplicaSetCreated", f'Created new replica set "{name_of(new)}"')

    def _set_revision(self, rs: Object) -> None:
        revision = annotations_of(rs).get(REVISION)
        if revision is not None and annotations_of(self.deployment).get(REVISION) != revision:
            self.revision = revision

    def _progress(self, reason: str, message: str) -> None:
        made = conditions.make(conditions.PROGRESSING, "True", reason, message, self.now)
        self.conditions = conditions.put(self.conditions, made)

    def scale(self, rs: Object, replicas: int) -> bool:
        """Scale one ReplicaSet; True if its size changes."""
        before = replicas_of(rs)
        self.fleet = self.fleet.replaced(sized(self.deployment, rs, replicas))
        if before == replicas:
            return False
        direction = "up" if before < replicas else "down"
        message = f"Scaled {direction} replica set {name_of(rs)} from {before} to {replicas}"
        self.events.append(("ScalingReplicaSet", message))
        return True

    def done(self, status: Object, deletes: list[Object]) -> DeploymentPlan:
        created = name_of(self.create) if self.create is not None else ""
        create = next((rs for rs in self.fleet.all if name_of(rs) == created), None) if created else None
        updates = tuple(rs for rs in self.fleet.all if name_of(rs) != created and rs is not self.before[name_of(rs)])
        return DeploymentPlan(create, updates, tuple(deletes), tuple(self.events), self.revision, status)


def plan_deployment(deployment: Object, sets: list[Object], now: datetime, *, old_pods_run: bool) -> DeploymentPlan:
    """Plan one step for a Deployment that owns `sets`.

    `old_pods_run` tells whether pods of other than the new ReplicaSet still exist and have not ended (for Recreate).
    """
    step = _Step(deployment, sets, now)
    if is_deleting(deployment):
        step.sync_revision(create=False)
        return step.done(conditions.counts(deployment, step.fleet, step.conditions, now), [])
    step.conditions = conditions.paused(deployment, step.conditions, now)
    if deployment["spec"].get("paused") or _resized(step):
        step.sync_revision(create=False)
        _resize(step)
        deletes = retired(deployment, step.fleet.old) if deployment["spec"].get("paused") else []
        return step.done(conditions.counts(deployment, step.fleet, step.conditions, now), deletes)
    moved = _roll(step) if is_rolling(deployment) else _recreate(step, old_pods_run)
    deletes = []
    if not moved and conditions.is_complete(deployment, deployment.get("status") or {}):
        deletes = retired(deployment, step.fleet.old)
    return step.done(conditions.rollout(deployment, step.fleet, step.conditions, now), deletes)


# -- scaling -------------------------------------------------------------------------------------------------------


def _resized(step: _Step) -> bool:
    """Whether the Deployment's replicas changed since its ReplicaSets were last scaled."""
    desired = replicas_of(step.deployment)
    noted = (desired_annotation(rs) for rs in active(step.fleet.all))
    return any(number is not None and number != desired for number in noted)


def _resize(step: _Step) -> None:
    """Scale the one live ReplicaSet, or, in the middle of a rollout, all of them in proportion."""
    deployment, desired = step.deployment, replicas_of(step.deployment)
    live = active(step.fleet.all)
    if len(live) <= 1:
        only = live[0] if live else step.fleet.new or next(iter(sorted(step.fleet.old, key=age_key)[::-1]), None)
        if only is not None and replicas_of(only) != desired:
            step.scale(only, desired)
        return
    new = step.fleet.new
    if (
        new is not None
        and replicas_of(new) == desired == desired_annotation(new)
        and status_count(new, "availableReplicas") == desired
    ):
        for rs in active(step.fleet.old):
            step.scale(rs, 0)
        return
    if is_rolling(deployment):
        for rs, replicas in _proportions(deployment, live):
            step.scale(rs, replicas)


def _proportions(deployment: Object, live: list[Object]) -> list[tuple[Object, int]]:
    """New sizes that spread growth or shrinkage over the live ReplicaSets; the largest takes what rounding leaves."""
    desired = replicas_of(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    to_add = allowed - total_replicas(live)
    ordered = sorted(live, key=age_key, reverse=to_add > 0)
    ordered.sort(key=replicas_of, reverse=True)  # stable: by size, then newer (growing) or older (shrinking) first
    sizes, added = [], 0
    for rs in ordered:
        share = _share(deployment, rs, to_add, added)
        sizes.append(replicas_of(rs) + share)
        added += share
    if to_add:
        sizes[0] = max(0, sizes[0] + to_add - added)
    return list(zip(ordered, sizes, strict=True))


def _share(deployment: Object, rs: Object, to_add: int, added: int) -> int:
    own = replicas_of(rs)
    if own == 0 or to_add == 0 or to_add == added:
        return 0
    desired = replicas_of(deployment)
    if desired == 0:
        fraction = -own
    else:
        noted = annotations_of(rs).get(MAX_REPLICAS, "")
        before = int(noted) if noted.isdigit() and int(noted) > 0 else status_count(deployment, "replicas")
        if before == 0:
            return 0
        exact = own * (desired + max_surge(deployment)) / before
        fraction = int(exact + 0.5) - own
    room = to_add - added
    return min(fraction, room) if to_add > 0 else max(fraction, room)


# -- rolling update ------------------------------------------------------------------------------------------------


def _roll(step: _Step) -> bool:
    """Grow the new ReplicaSet if it may, else shrink old ones; True if anything was scaled."""
    step.sync_revision(create=True)
    new, desired = step.fleet.new, replicas_of(step.deployment)
    assert new is not None, "made above"
    if step.create is None and replicas_of(new) != desired:
        target = desired if replicas_of(new) > desired else new_set_replicas(step.deployment, step.fleet)
        if step.scale(new, target):
            return True
    return _shrink_old(step)


def _shrink_old(step: _Step) -> bool:
    fleet = step.fleet
    assert fleet.new is not None, "made by _roll"
    if total_replicas(fleet.old) == 0:
        return False
    min_available = replicas_of(step.deployment) - max_unavailable(step.deployment)
    new_unavailable = replicas_of(fleet.new) - status_count(fleet.new, "availableReplicas")
    room = total_replicas(fleet.all) - min_available - new_unavailable
    if room <= 0:
        return False
    # Pods that are not available anyway go first: they cost nothing, and a stuck rollout must not block a better one.
    moved, removed = False, 0
    for rs in sorted(active(fleet.old), key=age_key):
        unhealthy = replicas_of(rs) - status_count(rs, "availableReplicas")
        count = min(room - removed, unhealthy)
        if count > 0:
            moved |= step.scale(rs, replicas_of(rs) - count)
            removed += count
    spare = total_status(step.fleet.all, "availableReplicas") - min_available
    for rs in sorted(active(step.fleet.old), key=age_key):
        count = min(replicas_of(rs), spare)
        if count > 0:
            moved |= step.scale(rs, replicas_of(rs) - count)
            spare -= count
    return moved


# -- recreate ------------------------------------------------------------------------------------------------------


def _recreate(step: _Step, old_pods_run: bool) -> bool:
    """Scale all old ReplicaSets to nothing, wait until their pods are gone, then start the new one."""
    step.sync_revision(create=False)
    live = active(step.fleet.old)
    for rs in live:
        step.scale(rs, 0)
    if live:
        return True
    if old_pods_run or total_status(step.fleet.old, "replicas") > 0:
        return True
    if step.fleet.new is None:
        step.sync_revision(create=True)
    elif replicas_of(step.fleet.new) != replicas_of(step.deployment):
        step.scale(step.fleet.new, replicas_of(step.deployment))
    return False
