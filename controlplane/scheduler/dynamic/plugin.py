"""DynamicResources: pods that use ResourceClaims go where their devices are, or can be allocated.

Source: KEP-4381; k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.dynamic import allocator
from controlplane.scheduler.dynamic.inventory import InUse, Inventory
from controlplane.scheduler.framework import PodUnschedulable, Reject, Remedy, Scope, Scores, normalized
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from machinery.api.catalogue import DEVICECLASSES, RESOURCECLAIMS, RESOURCESLICES
from machinery.api.meta import Object, is_deleting, key_of, name_of, namespace_of, uid_of
from machinery.cache.informer import Informer, Informers
from machinery.client.rest import Client
from machinery.errors import Conflict, NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_FINALIZER = "resource.kubernetes.io/delete-protection"
_MOST_USERS = 256
_MOST_ALTERNATIVES = 8
_TRIES = 5


class DynamicResources:
    """Filter: claims must be usable, or allocatable, on the node. Before binding: they are allocated and reserved."""

    name = "DynamicResources"
    scope = Scope.CLUSTER
    score_scope = Scope.CLUSTER

    def __init__(self, informers: Informers, client: Client, nodes: NodeTable) -> None:
        self.claims = informers.of(RESOURCECLAIMS)
        self.slices = informers.of(RESOURCESLICES)
        self.classes = informers.of(DEVICECLASSES)
        self._client = client
        self._nodes = nodes
        self._pending: dict[str, Object] = {}  # claim uid → its allocation, on the way to the API server
        self._found: dict[str, dict[int, list[allocator.Chosen]]] = {}  # pod → row → what its claims would get

    def sources(self) -> Iterable[tuple[str, Informer]]:
        """(kind, informer) of what pods that were turned away wait for."""
        return ("ResourceClaim", self.claims), ("ResourceSlice", self.slices), ("DeviceClass", self.classes)

    # -- before any node ---------------------------------------------------------------------------------------------

    def gate(self, pod: Pod) -> str | None:
        """A pod whose claims are not there is not tried."""
        try:
            self._claims_of(pod)
        except PodUnschedulable as exc:
            return str(exc)
        return None

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """Claims must be free for the pod, and their classes must exist."""
        self._found.pop(pod.key, None)
        for claim in self._claims_of(pod):
            allocated = (claim.get("status") or {}).get("allocation")
            users = (claim.get("status") or {}).get("reservedFor") or ()
            if allocated:
                if len(users) >= _MOST_USERS and not _reserved_for(claim, pod):
                    raise PodUnschedulable("resourceclaim in use")
                continue
            if uid_of(claim) in self._pending:
                raise PodUnschedulable(f"resource claim {key_of(claim)} is in the process of being allocated")
            for request, class_name in _class_names(claim):
                if self.classes.get(class_name) is None:
                    raise PodUnschedulable(f"request {request}: device class {class_name} does not exist")
        return None

    def _claims_of(self, pod: Pod) -> list[Object]:
        if not pod.shape.resource_claims:
            return []
        made = {
            each["name"]: each.get("resourceClaimName")
            for each in (pod.object.get("status") or {}).get("resourceClaimStatuses") or ()
        }
        found = []
        for each in pod.spec.get("resourceClaims") or ():
            name = each.get("resourceClaimName")
            own = name is None
            if own:
                if each["name"] not in made:
                    raise PodUnschedulable(f'pod "{pod.key}": ResourceClaim not created yet')
                name = made[each["name"]]
                if name is None:  # none is needed
                    continue
            claim = self.claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                raise PodUnschedulable(f'resourceclaim "{name}" not found')
            if is_deleting(claim):
                raise PodUnschedulable(f'resourceclaim "{name}" is being deleted')
            if own and not any(o.get("uid") == pod.uid for o in claim["metadata"].get("ownerReferences") or ()):
                raise PodUnschedulable(
                    f"ResourceClaim {key_of(claim)} was not created for pod {pod.key} (pod is not owner)"
                )
            found.append(claim)
        return found

    # -- nodes -------------------------------------------------------------------------------------------------------

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Two reasons: an allocated claim is not available there; the others can't be allocated there."""
        if not pod.shape.resource_claims:
            return
        away = rows.none()
        waiting: list[Object] = []
        for claim in self._claims_of(pod):
            allocated = (claim.get("status") or {}).get("allocation")
            if not allocated:
                waiting.append(claim)
            elif selector := allocated.get("nodeSelector"):
                away |= ~matches_terms(selector.get("nodeSelectorTerms") or (), rows)
        yield Reject(away, "resourceclaim not available on the node", final=True)
        if waiting:
            short = rows.exists & ~away & ~self._allocatable(pod, waiting, rows)
            yield Reject(short, "cannot allocate all claims", final=True)

    def _allocatable(self, pod: Pod, claims: Sequence[Object], rows: Rows) -> Mask:
        inventory = Inventory.of(self.slices.list())
        in_use = InUse.of(inventory, self._allocations())
        needs = [allocator.need(claim, self._classes()) for claim in claims]
        reach = np.array([d.rows(rows) for d in (*inventory.devices, *inventory.updating)], np.bool_)
        known = len(inventory.devices)
        possible = rows.none()
        found = self._found.setdefault(pod.key, {})
        alike: dict[bytes, list[allocator.Chosen] | None] = {}  # nodes that reach the same devices get the same answer
        for place in np.flatnonzero(rows.exists).tolist():
            here = reach[:, place] if len(reach) else np.zeros(0, np.bool_)
            same = here.tobytes()
            if same not in alike:
                devices = [inventory.devices[i] for i in np.flatnonzero(here[:known]).tolist()]
                updating = [inventory.updating[i] for i in np.flatnonzero(here[known:]).tolist()]
                alike[same] = allocator.Search(devices, in_use, updating).run(needs)
            chosen = alike[same]
            if chosen is not None:
                possible[place] = True
                row = place if isinstance(rows.index, slice) else int(rows.index[place])
                found[row] = chosen
        return possible

    # -- scores ------------------------------------------------------------------------------------------------------

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """Where requests with alternatives get better ones."""
        found = self._found.get(pod.key)
        if not found or isinstance(rows.index, slice):
            return None
        waiting = [claim for claim in self._claims_of(pod) if not (claim.get("status") or {}).get("allocation")]
        worth = [_worth(claim) for claim in waiting]
        if not any(worth):
            return None
        scores: Scores = np.zeros(len(rows), np.int64)
        for place, row in enumerate(rows.index.tolist()):
            for values, chosen in zip(worth, found.get(row, ()), strict=False):
                scores[place] += sum(values.get(name, 0) for name in {request.name for request, _ in chosen})
        return normalized(scores)

    def _classes(self) -> dict[str, Object]:
        return {name_of(each): each for each in self.classes.list()}

    def _allocations(self) -> Iterable[Object]:
        for claim in self.claims.list():
            allocated = self._pending.get(uid_of(claim)) or (claim.get("status") or {}).get("allocation")
            if allocated:
                yield allocated

    # -- binding -----------------------------------------------------------------------------------------------------

    def reserve(self, pod: Pod, node_name: str) -> bool:
        """Keep the chosen devices for the pod's claims."""
        claims = self._claims_of(pod)
        if not claims:
            return False
        waiting = [claim for claim in claims if not (claim.get("status") or {}).get("allocation")]
        row = self._nodes.row(node_name)
        chosen = self._found.pop(pod.key, {}).get(-1 if row is None else row, ())
        if len(chosen) != len(waiting):
            raise PodUnschedulable("claim allocation not found for node")
        for claim, devices in zip(waiting, chosen, strict=True):
            self._pending[uid_of(claim)] = allocator.allocation(claim, devices, self._classes(), node_name)
        return True

    async def before_binding(self, pod: Pod, node_name: str) -> None:
        """Write allocation and reservation of every claim. Raises NavarchError."""
        for claim in self._claims_of(pod):
            if not _reserved_for(claim, pod):
                await self._bind(claim, pod)
            self._pending.pop(uid_of(claim), None)

    async def _bind(self, claim: Object, pod: Pod) -> None:
        pending = self._pending.get(uid_of(claim))
        for attempt in range(_TRIES):
            current = await self._client.get(RESOURCECLAIMS, name_of(claim), namespace_of(claim))
            try:
                await self._client.update(
                    RESOURCECLAIMS, await self._bound(current, pod, pending), subresource="status"
                )
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
            else:
                return

    async def _bound(self, claim: Object, pod: Pod, pending: Object | None) -> Object:
        if is_deleting(claim) or uid_of(claim) == "":
            raise PodUnschedulable(f"claim {key_of(claim)} got deleted in the meantime")
        status: dict[str, Any] = dict(claim.get("status") or {})
        if pending is not None:
            if status.get("allocation"):
                raise PodUnschedulable(f"claim {key_of(claim)} got allocated elsewhere in the meantime")
            finalizers = claim["metadata"].get("finalizers") or []
            if _FINALIZER not in finalizers:
                metadata = {**claim["metadata"], "finalizers": [*finalizers, _FINALIZER]}
                claim = await self._client.update(RESOURCECLAIMS, {**claim, "metadata": metadata})
            status["allocation"] = pending
        elif not status.get("allocation"):
            raise PodUnschedulable(f"claim {key_of(claim)} got deallocated in the meantime")
        users = status.get("reservedFor") or []
        status["reservedFor"] = [*users, {"resource": "pods", "name": pod.name, "uid": pod.uid}]
        return {**claim, "status": status}

    async def unreserve(self, pod: Pod, node_name: str) -> None:
        """Let the devices go."""
        try:
            claims = self._claims_of(pod)
        except PodUnschedulable:
            return
        for claim in claims:
            self._pending.pop(uid_of(claim), None)
            if not _reserved_for(claim, pod):
                continue
            users = [u for u in claim["status"]["reservedFor"] if u.get("uid") != pod.uid]
            try:
                changed = {**claim, "status": {**claim["status"], "reservedFor": users}}
                await self._client.update(RESOURCECLAIMS, changed, subresource="status")
            except NavarchError as exc:  # the next attempt comes here again
                log.warning("could not unreserve", resourceclaim=key_of(claim), err=str(exc))

    # -- when the pod fits nowhere -----------------------------------------------------------------------------------

    def when_unschedulable(self, pod: Pod) -> tuple[str, Remedy | None]:
        """An allocated claim of the pod that ties it to nodes, and that nobody uses, is freed."""
        try:
            claims = self._claims_of(pod)
        except PodUnschedulable:
            claims = []
        if not claims:
            return "no new claims to deallocate", None
        for claim in claims:
            status = claim.get("status") or {}
            users = [user for user in status.get("reservedFor") or () if user.get("uid") != pod.uid]
            if (status.get("allocation") or {}).get("nodeSelector") and not users:
                freed = {name: value for name, value in status.items() if name not in ("allocation", "reservedFor")}
                return "deallocation of ResourceClaim completed", partial(self._free, {**claim, "status": freed})
        return "still not schedulable", None

    async def _free(self, claim: Object) -> None:
        await self._client.update(RESOURCECLAIMS, claim, subresource="status")


def _reserved_for(claim: Object, pod: Pod) -> bool:
    return any(user.get("uid") == pod.uid for user in (claim.get("status") or {}).get("reservedFor") or ())


def _worth(claim: Object) -> dict[str, int]:
    """Alternative → what it is worth: the most for the first of a request."""
    return {
        f"{request['name']}/{sub['name']}": _MOST_ALTERNATIVES - rank
        for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ()
        for rank, sub in enumerate(request.get("firstAvailable") or ())
    }


def _class_names(claim: Object) -> Iterable[tuple[str, str]]:
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        for sub in request.get("firstAvailable") or ():
            yield f"{request['name']}/{sub['name']}", sub["deviceClassName"]
        if exactly := request.get("exactly"):
            yield request["name"], exactly["deviceClassName"]
