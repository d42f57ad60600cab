"""The ResourceClaims of the cluster, as they will be once what this scheduler has decided and written is known to all.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources/dra_manager.go (assume cache, allocations in
flight).
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.scheduler.dynamic import extended
from controlplane.scheduler.framework import PodUnschedulable
from controlplane.scheduler.pod import Pod
from machinery.api.meta import Object, is_deleting, key_of, uid_of
from machinery.cache.informer import Informer

_SPECIAL = "special"


class Claims:
    """Claims: what informers show, overlaid with what has been written since, and allocations that will be written."""

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self._pending: dict[str, Object] = {}  # claim uid → its allocation, on the way to the API server
        self._written: dict[str, Object] = {}  # key → the claim as the API server answered, until it is shown
        informer.add_index(_SPECIAL, extended.owner_uid)
        informer.on_change(self._shown)

    def _shown(self, old: Object | None, new: Object | None) -> None:
        shown = new if new is not None else old or {}
        written = self._written.get(key_of(shown))
        if written is None:
            return
        same = uid_of(written) == uid_of(shown)
        if (same and new is None) or (new is not None and (not same or _version(new) >= _version(written))):
            del self._written[key_of(shown)]

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Object | None:
        """The claim of this key."""
        written = self._written.get(key)
        return written if written is not None else self.informer.get(key)

    def allocations(self) -> Iterable[Object]:
        """Every allocation there is or will be."""
        yield from self._pending.values()
        shown = (claim for claim in self.informer.list() if key_of(claim) not in self._written)
        for claim in (*self._written.values(), *shown):
            allocated = (claim.get("status") or {}).get("allocation")
            if allocated and uid_of(claim) not in self._pending:
                yield allocated

    def is_pending(self, claim: Object) -> bool:
        """Whether the claim's allocation is on its way."""
        return uid_of(claim) in self._pending

    def special_of(self, pod: Pod) -> Object | None:
        """The claim that an earlier attempt has made for the pod's extended resources."""
        found = [self.get(key_of(claim)) for claim in self.informer.by_index(_SPECIAL, pod.uid)]
        written = (claim for claim in self._written.values() if extended.owner_uid(claim) == [pod.uid])
        return next((claim for claim in (*found, *written) if claim is not None), None)

    def of(self, pod: Pod) -> list[Object]:
        """The claims that a pod names, in order. Raises PodUnschedulable if one is missing or not for the pod."""
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
            claim = self.get(f"{pod.namespace}/{name}")
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

    # -- deciding and writing ----------------------------------------------------------------------------------------

    def promise(self, claim: Object, allocation: Object) -> None:
        """Count the allocation of a claim from now on."""
        self._pending[uid_of(claim)] = allocation

    def promised(self, claim: Object) -> Object | None:
        """The allocation that was promised, if any."""
        return self._pending.get(uid_of(claim))

    def settle(self, claim: Object) -> None:
        """The allocation is written, or will not be."""
        self._pending.pop(uid_of(claim), None)

    def wrote(self, claim: Object) -> None:
        """The API server has this now."""
        shown = self.informer.get(key_of(claim))
        if shown is None or uid_of(shown) != uid_of(claim) or _version(shown) < _version(claim):
            self._written[key_of(claim)] = claim

    def removed(self, claim: Object) -> None:
        """The API server has it no more, or will not have it for long."""
        self._written.pop(key_of(claim), None)


def reserved_for(claim: Object, pod: Pod) -> bool:
    """Whether the pod may use the claim."""
    return any(user.get("uid") == pod.uid for user in (claim.get("status") or {}).get("reservedFor") or ())


def allocation_of(claim: Object) -> Object | None:
    """What the claim has been given, or None."""
    found: Object | None = (claim.get("status") or {}).get("allocation")
    return found


def _version(claim: Object) -> int:
    return int(claim["metadata"].get("resourceVersion") or 0)
