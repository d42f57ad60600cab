"""The hand of the StatefulSet controller.

Source: k8s.io/kubernetes/pkg/controller/statefulset/{stateful_set,stateful_pod_control}.go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from controlplane.controllers.adoption import Claimer
from controlplane.controllers.environment import Environment
from controlplane.controllers.freshness import Written
from controlplane.controllers.ownership import candidates, follow, selector_of
from controlplane.controllers.pods import next_availability
from controlplane.controllers.revisions import (
    Collision,
    RevisionHand,
    plan_revision,
    revision_label,
    surplus,
)
from controlplane.controllers.slowstart import slow_start
from controlplane.controllers.statefulset.identity import (
    claim_owners,
    claims_of,
    is_member,
    is_stale_claim,
    ordinal_of,
)
from controlplane.controllers.statefulset.plan import SetPlan, plan_set
from machinery.api.catalogue import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from machinery.api.meta import Object, is_deleting, key_of, name_of, namespace_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound
from machinery.events import EventRecorder

ACCOUNT = "statefulset-controller"


@dataclass(frozen=True)
class StatefulSetReconciler:
    """Drives one StatefulSet."""

    sets: Informer
    pods: Informer
    claims: Informer
    revisions: Informer
    client: Client
    pod_claimer: Claimer
    revision_claimer: Claimer
    recorder: EventRecorder
    clock: Clock
    written: Written = field(default_factory=Written)

    async def reconcile(self, key: str) -> float | None:
        """One step; returns seconds until a ready pod becomes available."""
        owner = self.sets.get(key)
        if owner is None:
            self.written.forget(key)
            return None
        if self.written.is_stale(key, owner):
            return None
        selector = selector_of(owner)
        mine = [p for p in candidates(self.pods, owner) if is_member(owner, p)]
        pods = await self.pod_claimer.claim(owner, selector, mine)
        known = await self.revision_claimer.claim(owner, selector, candidates(self.revisions, owner))
        collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
        hand = RevisionHand(self.client)
        try:
            update = await hand.write(plan_revision(owner, STATEFULSETS, known, collisions))
        except Collision:
            status = {**(owner.get("status") or {"replicas": 0}), "collisionCount": collisions + 1}
            await self._write_status(owner, status)
            return None
        named = (owner.get("status") or {}).get("currentRevision")
        current = next((r for r in known if name_of(r) == named), update)
        now = self.clock.now()
        plan = plan_set(owner, current, update, collisions, pods, now)
        await self._retain_claims(owner, pods)  # before their pods go: afterwards nobody would know whose they were
        error = await self._carry_out(owner, plan)
        await self._write_status(owner, plan.status)
        used = {name_of(update), name_of(current), *(revision_label(p) for p in pods)}
        limit = owner["spec"].get("revisionHistoryLimit")
        if not is_deleting(owner):
            await hand.delete(surplus(known, used, 10 if limit is None else int(limit)))
        if error is not None:
            raise error
        return next_availability(pods, int(owner["spec"].get("minReadySeconds") or 0), now)

    async def _carry_out(self, owner: Object, plan: SetPlan) -> NavarchError | None:
        """Make, mend and delete pods; the first error, if any."""
        for pod in plan.need_claims:
            await self._make_claims(owner, pod)
        made = await slow_start(len(plan.create), lambda i: self._create(owner, plan.create[i]))
        results = await asyncio.gather(
            *(self._update(owner, pod) for pod in plan.update),
            *(self._delete(owner, pod) for pod in plan.delete),
            return_exceptions=True,
        )
        errors = [r for r in (made.error, *results) if isinstance(r, BaseException)]
        for error in errors:
            if not isinstance(error, NavarchError):
                raise error
        return next((e for e in errors if isinstance(e, NavarchError)), None)

    # -- pods --------------------------------------------------------------------------------------------------------

    async def _create(self, owner: Object, pod: Object) -> None:
        if any(is_stale_claim(pod, claim) for claim in self._existing_claims(owner, pod)):
            return  # it goes with its pod; when it is gone, we are called again
        try:
            await self._make_claims(owner, pod)
            await self.client.create(PODS, pod)
        except AlreadyExists:
            return  # the cache lags, or an earlier pod of this name is not gone: its change leads here again
        except NavarchError as exc:
            self._tell_failure(owner, "Create", f"create Pod {name_of(pod)} in StatefulSet {name_of(owner)}", exc)
            raise
        self._tell(owner, "Create", f"create Pod {name_of(pod)} in StatefulSet {name_of(owner)}")

    async def _update(self, owner: Object, pod: Object) -> None:
        told = f"update Pod {name_of(pod)} in StatefulSet {name_of(owner)}"
        try:
            await self.client.update(PODS, pod)
        except (NotFound, Conflict):
            raise
        except NavarchError as exc:
            self._tell_failure(owner, "Update", told, exc)
            raise
        self._tell(owner, "Update", told)

    async def _delete(self, owner: Object, pod: Object) -> None:
        told = f"delete Pod {name_of(pod)} in StatefulSet {name_of(owner)}"
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
        except NotFound:
            return
        except NavarchError as exc:
            self._tell_failure(owner, "Delete", told, exc)
            raise
        self._tell(owner, "Delete", told)

    def _tell(self, owner: Object, verb: str, what: str) -> None:
        self.recorder.normal(owner, f"Successful{verb}", f"{what} successful")

    def _tell_failure(self, owner: Object, verb: str, what: str, error: NavarchError) -> None:
        self.recorder.warning(owner, f"Failed{verb}", f"{what} failed error: {error}")

    # -- claims ------------------------------------------------------------------------------------------------------

    def _existing_claims(self, owner: Object, pod: Object) -> list[Object]:
        found = (self.claims.get(key_of(claim)) for claim in claims_of(owner, ordinal_of(pod)))
        return [claim for claim in found if claim is not None]

    async def _make_claims(self, owner: Object, pod: Object) -> None:
        for claim in claims_of(owner, ordinal_of(pod)):
            present = self.claims.get(key_of(claim))
            if present is not None:
                if is_deleting(present):
                    raise Conflict(f"pvc {name_of(claim)} is being deleted")
                continue
            told = f"create Claim {name_of(claim)} Pod {name_of(pod)} in StatefulSet {name_of(owner)}"
            try:
                await self.client.create(PERSISTENTVOLUMECLAIMS, claim)
            except AlreadyExists:
                continue
            except NavarchError as exc:
                told = f"create Claim {name_of(claim)} for Pod {name_of(pod)} in StatefulSet {name_of(owner)}"
                self.recorder.warning(owner, "FailedCreate", f"{told} failed error: {exc}")
                raise
            self.recorder.normal(owner, "SuccessfulCreate", f"{told} success")

    async def _retain_claims(self, owner: Object, pods: list[Object]) -> None:
        """Tell the garbage collector, by owner references, which claims go with what."""
        for pod in pods:
            for claim in self._existing_claims(owner, pod):
                wanted = claim_owners(owner, pod, claim)
                if wanted is claim["metadata"].get("ownerReferences") or wanted == (
                    claim["metadata"].get("ownerReferences") or []
                ):
                    continue
                changed = {**claim, "metadata": {**claim["metadata"], "ownerReferences": wanted}}
                await self.client.update(PERSISTENTVOLUMECLAIMS, changed)

    async def _write_status(self, owner: Object, status: Object) -> None:
        if status != (owner.get("status") or {}):
            changed = {**owner, "status": status}
            self.written.note(await self.client.update(STATEFULSETS, changed, subresource="status"))


def build(env: Environment) -> list[Controller]:
    """The controller of StatefulSets."""
    client = env.client_for(ACCOUNT)
    sets, pods = env.informer(STATEFULSETS), env.informer(PODS)
    reconciler = StatefulSetReconciler(
        sets=sets,
        pods=pods,
        claims=env.informer(PERSISTENTVOLUMECLAIMS),
        revisions=env.informer(CONTROLLERREVISIONS),
        client=client,
        pod_claimer=Claimer(client, STATEFULSETS, PODS),
        revision_claimer=Claimer(client, STATEFULSETS, CONTROLLERREVISIONS),
        recorder=env.recorder(ACCOUNT, ACCOUNT),
        clock=env.clock,
    )
    controller = Controller("statefulset", reconciler.reconcile, workers=env.options.concurrent("statefulset"))
    sets.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow(pods, sets, STATEFULSETS, controller.enqueue)

    def claim_changed(old: Object | None, new: Object | None) -> None:
        """A claim that kept a pod from being made is gone."""
        if new is not None or old is None:
            return
        for owner in sets.list(namespace_of(old)):
            if any(name_of(old).startswith(f"{name_of(t)}-{name_of(owner)}-") for t in _templates(owner)):
                controller.enqueue(key_of(owner))

    env.informer(PERSISTENTVOLUMECLAIMS).on_change(claim_changed)
    return [controller]


def _templates(owner: Object) -> list[Object]:
    return list(owner["spec"].get("volumeClaimTemplates") or ())
