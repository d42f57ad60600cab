"""ReplicaSets and ReplicationControllers: as many pods as asked for, no more, no fewer.

Both kinds have one reconcile; they differ in resource, names and selector alone.

Source: k8s.io/kubernetes/pkg/controller/replicaset, pkg/controller/replication.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.controllers.adoption import Claimer
from controlplane.controllers.environment import Environment
from controlplane.controllers.expectations import Expectations
from controlplane.controllers.ownership import candidates, controlled, follow, selector_of
from controlplane.controllers.podcontrol import PodControl, namespace_terminates
from controlplane.controllers.pods import (
    deletion_order,
    from_template,
    has_labels,
    is_active,
    is_available,
    is_ready,
    is_terminating,
    next_availability,
    node_of,
)
from controlplane.controllers.slowstart import slow_start
from machinery.api.catalogue import PODS, REPLICASETS, REPLICATIONCONTROLLERS
from machinery.api.meta import (
    Object,
    condition,
    controller_of,
    format_time,
    is_deleting,
    key_of,
    labels_of,
    uid_of,
)
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound

BURST = 500
"""Pods made or deleted in one reconcile, at most."""


@dataclass(frozen=True)
class ReplicaPlan:
    """How many pods to make, or which to delete."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def plan_replicas(owner: Object, active: list[Object], family: list[Object], now: datetime) -> ReplicaPlan:
    """Compare spec.replicas with the active pods it owns.

    `family` are the active pods of all owners with the same parent (all ReplicaSets of a Deployment): nodes that hold
    many of them lose one first.
    """
    wanted = owner["spec"].get("replicas")
    difference = len(active) - (1 if wanted is None else int(wanted))
    if difference < 0:
        return ReplicaPlan(create=min(-difference, BURST))
    if difference == 0:
        return ReplicaPlan()
    if difference < len(active):
        crowding = Counter(node_of(pod) for pod in family if node_of(pod))
        active = deletion_order(active, now, crowding)
    return ReplicaPlan(delete=tuple(active[: min(difference, BURST)]))


def plan_status(
    owner: Object, active: list[Object], terminating: int | None, failure: tuple[str, str] | None, now: datetime
) -> Object:
    """The status that the pods give; `failure` is (reason, message) of what went wrong making or deleting them."""
    spec, old = owner["spec"], owner.get("status") or {}
    min_ready = int(spec.get("minReadySeconds") or 0)
    wanted = (((spec.get("template") or {}).get("metadata")) or {}).get("labels") or {}
    status: dict[str, Any] = {"replicas": len(active)}
    counts = {
        "fullyLabeledReplicas": sum(has_labels(labels_of(pod), wanted) for pod in active),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in active),
    }
    status |= {name: count for name, count in counts.items() if count}
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = owner["metadata"].get("generation", 0)
    conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
    standing = condition(old.get("conditions"), "ReplicaFailure")
    if failure is not None and standing is not None:
        conditions.append(standing)
    elif failure is not None:
        conditions.append(
            {
                "type": "ReplicaFailure",
                "status": "True",
                "lastTransitionTime": format_time(now),
                "reason": failure[0],
                "message": failure[1],
            }
        )
    if conditions:
        status["conditions"] = conditions
    return status


@dataclass(frozen=True)
class ReplicaReconciler:
    """Drives one ReplicaSet (or ReplicationController) to its number of pods."""

    kind: ResourceType
    sets: Informer
    pods: Informer
    client: Client
    control: PodControl
    claimer: Claimer
    expected: Expectations
    clock: Clock
    counts_terminating: bool

    async def reconcile(self, key: str) -> float | None:
        """Make or delete pods, then write the status; returns seconds until the next pod becomes available."""
        owner = self.sets.get(key)
        if owner is None:
            self.expected.forget(key)
            return None
        settled = self.expected.settled(key)
        mine = [pod for pod in candidates(self.pods, owner) if is_active(pod)]
        active = await self.claimer.claim(owner, selector_of(owner), mine)
        failure: tuple[str, str] | None = None
        error: Exception | None = None
        if settled and not is_deleting(owner):
            now = self.clock.now()
            plan = plan_replicas(owner, active, self._family(owner), now)
            if plan.create:
                error = await self._create(key, owner, plan.create)
                failure = ("FailedCreate", str(error)) if error is not None else None
            elif plan.delete:
                error = await self._delete(key, owner, plan.delete)
                failure = ("FailedDelete", str(error)) if error is not None else None
        terminating = sum(map(is_terminating, controlled(self.pods, owner))) if self.counts_terminating else None
        now = self.clock.now()
        await self._write_status(owner, plan_status(owner, active, terminating, failure, now))
        if error is not None:
            raise error
        return next_availability(active, int(owner["spec"].get("minReadySeconds") or 0), now)

    def _family(self, owner: Object) -> list[Object]:
        """The active pods of all sets that the owner's own controller controls."""
        parent = controller_of(owner)
        siblings = self.sets.by_index("controller", parent["uid"]) if parent is not None else [owner]
        return [pod for sibling in siblings for pod in controlled(self.pods, sibling) if is_active(pod)]

    async def _create(self, key: str, owner: Object, count: int) -> Exception | None:
        pod = from_template(owner["spec"]["template"], owner, self.kind)
        self.expected.expect(key, creations=count)

        async def create(_: int) -> None:
            try:
                await self.control.create(pod, owner)
            except BaseException as exc:
                self.expected.created(key)
                if not (isinstance(exc, Exception) and namespace_terminates(exc)):
                    raise

        result = await slow_start(count, create)
        self.expected.created(key, result.skipped)
        return result.error

    async def _delete(self, key: str, owner: Object, doomed: tuple[Object, ...]) -> Exception | None:
        self.expected.expect(key, deletions=map(uid_of, doomed))

        async def delete(pod: Object) -> None:
            try:
                await self.control.delete(pod, owner)
            except NotFound:
                self.expected.deleted(key, uid_of(pod))
            except BaseException:
                self.expected.deleted(key, uid_of(pod))
                raise

        results = await asyncio.gather(*map(delete, doomed), return_exceptions=True)
        return next((result for result in results if isinstance(result, Exception)), None)

    async def _write_status(self, owner: Object, status: Object) -> None:
        if status != (owner.get("status") or {}):
            await self.client.update(self.kind, {**owner, "status": status}, subresource="status")


def _build(env: Environment, kind: ResourceType, name: str, account: str, workers: int) -> list[Controller]:
    client = env.client_for(account)
    sets, pods = env.informer(kind), env.informer(PODS)
    expected = Expectations(env.clock)
    reconciler = ReplicaReconciler(
        kind=kind,
        sets=sets,
        pods=pods,
        client=client,
        control=PodControl(client, env.recorder(account, account)),
        claimer=Claimer(client, kind, PODS),
        expected=expected,
        clock=env.clock,
        counts_terminating=kind == REPLICASETS,
    )
    controller = Controller(name, reconciler.reconcile, workers=workers)
    sets.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow(pods, sets, kind, controller.enqueue, expectations=expected)
    return [controller]


def build_replicasets(env: Environment) -> list[Controller]:
    """The controller of ReplicaSets."""
    return _build(env, REPLICASETS, "replicaset", "replicaset-controller", env.options.concurrent("replicaset"))


def build_replicationcontrollers(env: Environment) -> list[Controller]:
    """The controller of ReplicationControllers."""
    workers = env.options.concurrent("rc")
    return _build(env, REPLICATIONCONTROLLERS, "replicationmanager", "replication-controller", workers)
