"""What the scheduler writes into claims, and about them: allocations, reservations, claims for extended resources.

Source: KEP-4381, KEP-5004; k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources (bindClaim, deleteClaim).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from controlplane.scheduler import metrics
from controlplane.scheduler.dynamic import extended
from controlplane.scheduler.dynamic.claims import Claims, allocation_of, reserved_for
from controlplane.scheduler.pod import Pod
from machinery.api.catalogue import PODS, RESOURCECLAIMS
from machinery.api.meta import Object, format_time, is_deleting, key_of, name_of, namespace_of, uid_of
from machinery.api.resourceclaims import FINALIZER
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.errors import Conflict, NavarchError, NotFound

_TRIES = 5


class ClaimNotBound(NavarchError):
    """A claim of the pod is not the pod's to use after all; the pod must be scheduled again."""


class ClaimWriter:
    """Writes claims, and keeps `claims` told."""

    def __init__(self, client: Client, claims: Claims, clock: Clock) -> None:
        self._client = client
        self._claims = claims
        self._clock = clock

    async def bind(self, claim: Object, pod: Pod, allocation: Object | None) -> None:
        """Write the allocation of a claim, if it has none yet, and reserve it for the pod. Raises NavarchError."""

        async def attempt(current: Object) -> None:
            bound = await self._update(await self._to_bind(current, pod, allocation), allocation is not None)
            self._claims.wrote(bound)

        await self._trying(claim, attempt)

    async def _trying(self, claim: Object, attempt: Callable[[Object], Awaitable[None]]) -> None:
        """With the claim as it is known, and once more with a fresh one for each conflict."""
        for left in reversed(range(_TRIES)):
            try:
                await attempt(claim)
            except Conflict:
                if not left:
                    raise
                claim = await self._client.get(RESOURCECLAIMS, name_of(claim), namespace_of(claim))
            else:
                return

    async def _to_bind(self, claim: Object, pod: Pod, allocation: Object | None) -> Object:
        if is_deleting(claim):
            raise ClaimNotBound(f"claim {key_of(claim)} got deleted in the meantime")
        if allocation is not None:
            if allocation_of(claim):
                raise ClaimNotBound(f"claim {key_of(claim)} got allocated elsewhere in the meantime")
            finalizers = claim["metadata"].get("finalizers") or []
            if FINALIZER not in finalizers:
                metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
                claim = await self._client.update(RESOURCECLAIMS, {**claim, "metadata": metadata})
                self._claims.wrote(claim)
        status: dict[str, Any] = dict(claim.get("status") or {})
        allocated = allocation if allocation is not None else status.get("allocation")
        if not allocated:
            raise ClaimNotBound(f"claim {key_of(claim)} got deallocated in the meantime")
        status["allocation"] = {"allocationTimestamp": format_time(self._clock.now()), **allocated}
        if not reserved_for(claim, pod):
            user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
            status["reservedFor"] = [*(status.get("reservedFor") or ()), user]
        return {**claim, "status": status}

    async def _update(self, claim: Object, allocating: bool) -> Object:
        try:
            return await self._client.update(RESOURCECLAIMS, claim, subresource="status")
        except Conflict:
            raise
        except NavarchError as exc:
            what = "allocation and reservation" if allocating else "reservation"
            raise ClaimNotBound(f"add {what} to claim {key_of(claim)}: {exc}") from exc

    async def create(self, claim: Object) -> Object:
        """Make the special claim of a pod. Raises ClaimNotBound."""
        try:
            made = await self._client.create(RESOURCECLAIMS, extended.to_create(claim))
        except NavarchError as exc:
            metrics.CLAIM_CREATES.labels("failure").inc()
            raise ClaimNotBound(f"create claim for extended resources {key_of(claim)}: {exc}") from exc
        metrics.CLAIM_CREATES.labels("success").inc()
        self._claims.wrote(made)
        return made

    async def tell(self, pod: Pod, claim: Object, asked: extended.Asked) -> None:
        """Note in the pod which of its containers use which requests of its special claim. Raises ClaimNotBound."""
        status = {"resourceClaimName": name_of(claim), "requestMappings": list(asked.mappings)}
        change = {"metadata": {"uid": pod.uid}, "status": {"extendedResourceClaimStatus": status}}
        try:
            await self._client.patch(
                PODS, pod.name, change, pod.namespace, content_type=STRATEGIC, subresource="status"
            )
        except NavarchError as exc:
            raise ClaimNotBound(f"update pod {pod.key} ExtendedResourceClaimStatus: {exc}") from exc

    async def unreserve(self, claim: Object, pod: Pod) -> None:
        """The pod does not use the claim. Raises NavarchError."""
        change = {
            "metadata": {"uid": uid_of(claim)},
            "status": {"reservedFor": [{"$patch": "delete", "uid": pod.uid}]},
        }
        name, namespace = name_of(claim), namespace_of(claim)
        changed = await self._client.patch(
            RESOURCECLAIMS, name, change, namespace, content_type=STRATEGIC, subresource="status"
        )
        self._claims.wrote(changed)

    async def deallocate(self, claim: Object) -> None:
        """Take everything back from a claim that nobody uses. Raises NavarchError."""
        taken = ("allocation", "reservedFor", "devices")
        freed = {name: value for name, value in (claim.get("status") or {}).items() if name not in taken}
        await self._client.update(RESOURCECLAIMS, {**claim, "status": freed}, subresource="status")

    async def delete(self, claim: Object) -> None:
        """Remove a special claim, whatever it holds. Raises NavarchError."""

        async def attempt(current: Object) -> None:
            finalizers = [each for each in current["metadata"].get("finalizers") or () if each != FINALIZER]
            metadata = {**current["metadata"], "finalizers": finalizers}
            await self._client.update(RESOURCECLAIMS, {**current, "metadata": metadata})

        try:
            await self._trying(claim, attempt)
            await self._client.delete(RESOURCECLAIMS, name_of(claim), namespace_of(claim))
        except NotFound:
            pass
        self._claims.removed(claim)
