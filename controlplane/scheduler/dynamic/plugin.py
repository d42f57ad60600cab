"""DynamicResources: pods that use ResourceClaims go where their devices are, or can be allocated.

Source: KEP-4381, KEP-5004 (extended resources), KEP-5007 (binding conditions);
k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

import numpy as np

from controlplane.scheduler.dynamic import extended
from controlplane.scheduler.dynamic.claims import allocation_of, reserved_for
from controlplane.scheduler.dynamic.cycle import Cycle, Devices, Planner, worth
from controlplane.scheduler.dynamic.results import allocation
from controlplane.scheduler.dynamic.waiting import DeviceWait
from controlplane.scheduler.dynamic.writing import ClaimWriter
from controlplane.scheduler.framework import PodUnschedulable, Reject, Remedy, Scope, Scores, normalized
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.recorder import Recorder
from controlplane.scheduler.rows import Rows
from machinery.api.meta import Object, key_of, uid_of
from machinery.api.resourceclaims import requests_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_MOST_USERS = 256


class DynamicResources:
    """Filter: claims must be usable, or allocatable, on the node. Before binding: they are allocated and reserved."""

    name = "DynamicResources"
    scope = Scope.CLUSTER
    score_scope = Scope.CLUSTER

    def __init__(
        self, devices: Devices, client: Client, nodes: NodeTable, recorder: Recorder, limits: tuple[float, float]
    ) -> None:
        """`limits`: seconds to look for devices on a node, and for drivers to make them ready."""
        self._devices = devices
        self._claims = devices.claims
        self._nodes = nodes
        self._filter_seconds, binding_seconds = limits
        clock = SystemClock()
        self._writer = ClaimWriter(client, devices.claims, clock)
        self._wait = DeviceWait(devices.claims, recorder, binding_seconds, clock)
        self._cycles: dict[str, Cycle] = {}  # pod → the attempt to place it that is under way

    def sources(self) -> Iterable[tuple[str, Informer]]:
        """(kind, informer) of what pods that were turned away wait for."""
        yield "ResourceClaim", self._claims.informer
        yield "ResourceSlice", self._devices.slices
        yield "DeviceClass", self._devices.classes.informer

    # -- before any node ---------------------------------------------------------------------------------------------

    def gate(self, pod: Pod) -> str | None:
        """A pod whose claims are not there is not tried."""
        try:
            self._claims.of(pod)
        except PodUnschedulable as exc:
            return str(exc)
        return None

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """Claims must be free for the pod, and their classes must exist."""
        self._cycles.pop(pod.key, None)
        cycle = self._begin(pod)
        if cycle is None:
            return None
        for claim in cycle.all():
            if allocation_of(claim):
                users = claim["status"].get("reservedFor") or ()
                if len(users) >= _MOST_USERS and not reserved_for(claim, pod):
                    raise PodUnschedulable("resourceclaim in use")
                continue
            if self._claims.is_pending(claim):
                raise PodUnschedulable(f"resource claim {key_of(claim)} is in the process of being allocated")
            for request, class_name in _class_names(claim) if claim is not cycle.special else ():
                if self._devices.classes.informer.get(class_name) is None:
                    raise PodUnschedulable(f"request {request}: device class {class_name} does not exist")
        self._cycles[pod.key] = cycle
        return None

    def _begin(self, pod: Pod) -> Cycle | None:
        """What there is to do for the pod; None if it wants no devices."""
        claims = self._claims.of(pod)
        backed = [name for name in pod.shape.device_resources if self._devices.classes.stands_behind(name)]
        special = None
        if backed:
            special = self._claims.special_of(pod) or extended.special_claim(pod.object)
        return Cycle(claims, special, backed) if claims or special is not None else None

    # -- nodes -------------------------------------------------------------------------------------------------------

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """The claims can't be allocated there, or an allocated one is not available."""
        cycle = self._cycles.get(pod.key)
        if cycle is None:
            return
        if cycle.stale:
            # What was chosen for an earlier attempt need not hold any more: it goes, and the pod is tried afresh.
            yield Reject(rows.exists.copy(), "cannot schedule extended resource claim", final=True)
            return
        out = rows.none()
        for why, where in Planner(self._devices, cycle, pod, self._filter_seconds).short(rows):
            yield Reject(where, why, final=True)
            out |= where
        away = rows.none()
        for claim in cycle.claims:
            allocated = allocation_of(claim)
            if not allocated:
                continue
            if self._wait.is_lost(claim):
                elsewhere = rows.exists & ~out
            elif selector := allocated.get("nodeSelector"):
                elsewhere = ~matches_terms(selector.get("nodeSelectorTerms") or (), rows) & rows.exists & ~out
            else:
                continue
            if elsewhere.any():
                cycle.unavailable.add(uid_of(claim))
            away |= elsewhere
        yield Reject(away, "resourceclaim not available on the node", final=True)

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """Where requests with alternatives get better ones."""
        cycle = self._cycles.get(pod.key)
        if cycle is None or not cycle.found or isinstance(rows.index, slice):
            return None
        values = [worth(claim) for claim in cycle.waiting()]
        if not any(values):
            return None
        scores: Scores = np.zeros(len(rows), np.int64)
        for place, row in enumerate(rows.index.tolist()):
            plan = cycle.found.get(row)
            for of_claim, chosen in zip(values, plan.chosen if plan is not None else (), strict=False):
                scores[place] += sum(of_claim.get(name, 0) for name in {pick.request.name for pick in chosen})
        return normalized(scores)

    # -- binding -----------------------------------------------------------------------------------------------------

    def reserve(self, pod: Pod, node_name: str) -> bool:
        """Keep the chosen devices for the pod's claims."""
        cycle = self._cycles.get(pod.key)
        if cycle is None:
            return False
        row = self._nodes.row(node_name)
        plan = cycle.found.get(-1 if row is None else row)
        waiting = cycle.waiting()
        if plan is None:
            if waiting:
                self._cycles.pop(pod.key)
                raise PodUnschedulable("claim allocation not found for node")
            cycle.special = None  # the node offers the resources itself
            return bool(cycle.claims)
        cycle.special, cycle.asked = plan.special, plan.asked
        classes = self._devices.classes.by_name()
        for claim, devices in zip((*waiting, *cycle.specials()), plan.chosen, strict=True):
            self._claims.promise(claim, allocation(claim, devices, classes, node_name))
        return True

    async def before_binding(self, pod: Pod, node_name: str) -> None:
        """Write allocation and reservation of every claim, and wait for devices to be ready. Raises NavarchError."""
        cycle = self._cycles[pod.key]
        for claim in cycle.claims:
            current = self._claims.get(key_of(claim)) or claim
            if not reserved_for(current, pod):
                await self._writer.bind(current, pod, self._claims.promised(claim))
            self._claims.settle(claim)
        if cycle.special is not None and cycle.asked is not None:
            await self._make_special(cycle, cycle.special, cycle.asked, pod)
        await self._wait.until_ready(pod, [key_of(claim) for claim in cycle.all()], node_name)
        self._cycles.pop(pod.key, None)

    async def _make_special(self, cycle: Cycle, planned: Object, asked: extended.Asked, pod: Pod) -> None:
        """Make the claim for the pod's extended resources a real one."""
        allocated = self._claims.promised(planned)
        made = await self._writer.create(planned)
        cycle.special, cycle.created = made, True
        if allocated is not None:
            self._claims.promise(made, allocated)
        self._claims.settle(planned)
        await self._writer.bind(made, pod, allocated)
        self._claims.settle(made)
        await self._writer.tell(pod, made, asked)

    async def unreserve(self, pod: Pod, node_name: str) -> None:
        """Let the devices go."""
        cycle = self._cycles.pop(pod.key, None)
        if cycle is None:
            return
        for claim in cycle.all():
            self._claims.settle(claim)
            current = self._claims.get(key_of(claim))
            try:
                if claim is cycle.special:
                    if cycle.created:
                        await self._writer.delete(current or claim)
                elif current is not None and allocation_of(current) and reserved_for(current, pod):
                    await self._writer.unreserve(current, pod)
            except NavarchError as exc:  # the next attempt comes here again
                log.warning("could not unreserve", resourceclaim=key_of(claim), err=str(exc))

    # -- when the pod fits nowhere -----------------------------------------------------------------------------------

    def when_unschedulable(self, pod: Pod) -> tuple[str, Remedy | None]:
        """A claim that keeps the pod from nodes, and that nobody else uses, is freed; a special one of before goes."""
        cycle = self._cycles.pop(pod.key, None)
        if cycle is None:
            return "no new claims to deallocate", None
        for claim in cycle.claims:
            users = (claim.get("status") or {}).get("reservedFor") or ()
            alone = not users or (len(users) == 1 and users[0].get("uid") == pod.uid)
            if uid_of(claim) in cycle.unavailable and alone:
                return "deallocation of ResourceClaim completed", partial(self._writer.deallocate, claim)
        if cycle.special is not None and cycle.stale:
            return "deletion of ResourceClaim completed", partial(self._writer.delete, cycle.special)
        return "still not schedulable", None


def _class_names(claim: Object) -> Iterable[tuple[str, str]]:
    for request in requests_of(claim):
        for sub in request.get("firstAvailable") or ():
            yield f"{request['name']}/{sub['name']}", sub["deviceClassName"]
        if exactly := request.get("exactly"):
            yield request["name"], exactly["deviceClassName"]
