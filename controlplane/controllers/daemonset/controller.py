"""The hand of the DaemonSet controller.

Source: k8s.io/kubernetes/pkg/controller/daemon/daemon_controller.go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from controlplane.controllers.adoption import Claimer
from controlplane.controllers.daemonset.nodes import make_pod, should_run
from controlplane.controllers.daemonset.plan import DaemonPlan, plan_daemons
from controlplane.controllers.environment import Environment
from controlplane.controllers.expectations import Expectations
from controlplane.controllers.freshness import Written
from controlplane.controllers.ownership import candidates, follow, resolve, selecting, selector_of
from controlplane.controllers.podcontrol import PodControl, namespace_terminates
from controlplane.controllers.pods import next_availability
from controlplane.controllers.revisions import (
    POD_LABEL,
    Collision,
    RevisionHand,
    in_order,
    plan_revision,
    revision_label,
)
from controlplane.controllers.slowstart import slow_start
from machinery.api.catalogue import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from machinery.api.meta import (
    Object,
    controller_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder

ACCOUNT = "daemon-set-controller"
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 1.0, 900.0


class FailureBackoff:
    """How soon a daemon that keeps failing on a node is made again: doubled each time, up to 15 minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, int, str], tuple[float, float]] = {}  # (delay, since)

    def wait(self, owner: str, generation: int, node: str) -> float:
        """Seconds until a pod of this owner (uid) may be replaced on the node; 0 counts as done, and doubles it.

        Another generation starts anew: what failed may have been mended.
        """
        now = self._clock.monotonic()
        key = owner, generation, node
        delay, since = self._known.get(key, (0.0, now))
        if now - since > 2 * _LONGEST_BACKOFF_SECONDS:
            delay = 0.0
        left = since + delay - now
        if left > 0:
            return left
        fresh = min(max(delay * 2, _FIRST_BACKOFF_SECONDS), _LONGEST_BACKOFF_SECONDS)
        self._known[key] = fresh, now
        return 0.0

    def forget(self, owner: str) -> None:
        """The owner is gone."""
        for known in [k for k in self._known if k[0] == owner]:
            del self._known[known]


@dataclass(frozen=True)
class DaemonSetReconciler:
    """Drives one DaemonSet."""

    sets: Informer
    pods: Informer
    nodes: Informer
    revisions: Informer
    client: Client
    control: PodControl
    pod_claimer: Claimer
    revision_claimer: Claimer
    recorder: EventRecorder
    expected: Expectations
    backoff: FailureBackoff
    clock: Clock
    written: Written = field(default_factory=Written)

    async def reconcile(self, key: str) -> float | None:
        """One step; returns seconds until a pod becomes available or may be replaced."""
        owner = self.sets.get(key)
        if owner is None:
            self.expected.forget(key)
            self.written.forget(key)
            return None
        # Of one that goes, revisions may be gone already: nothing true can be said of it, and nothing is to be made.
        if self.written.is_stale(key, owner) or is_deleting(owner):
            return None
        selector = selector_of(owner)
        if not selector or selector.nothing:
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.recorder.warning(owner, "SelectingAll", message)
            return None
        collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
        claimed = await self.revision_claimer.claim(owner, selector, candidates(self.revisions, owner))
        hand = RevisionHand(self.client)
        known = [await hand.hashed(revision) for revision in claimed]
        settled = self.expected.settled(key)
        pods = await self.pod_claimer.claim(owner, selector, candidates(self.pods, owner))
        history = plan_revision(owner, DAEMONSETS, known, collisions)
        try:
            revision = await hand.write(history)
        except Collision:
            status = {**(owner.get("status") or _EMPTY), "collisionCount": collisions + 1}
            await self._write_status(owner, status)
            return None
        if history.duplicates:
            pods = await self._merge(hand, revision, history.duplicates, pods)
        waits: list[float] = []
        observed = int((owner.get("status") or {}).get("observedGeneration") or 0)

        def may_kill(node: str) -> bool:
            wait = self.backoff.wait(uid_of(owner), observed, node)
            if wait > 0:
                waits.append(wait)
            return wait <= 0

        now = self.clock.now()
        plan = plan_daemons(
            owner,
            self.nodes.list(),
            pods,
            labels_of(revision).get(POD_LABEL, ""),
            collisions,
            now,
            settled=settled,
            may_kill_failed=may_kill,
        )
        self.recorder.tell(owner, plan.events)
        error = await self._carry_out(key, owner, plan, labels_of(revision).get(POD_LABEL, ""))
        await self._write_status(owner, plan.status)
        limit = owner["spec"].get("revisionHistoryLimit")
        gone = {name_of(r) for r in (revision, *history.duplicates)}
        old = [r for r in known if name_of(r) not in gone]
        await hand.delete(retired(old, {revision_label(p) for p in pods}, 10 if limit is None else int(limit)))
        if error is not None:
            raise error
        if (wait := next_availability(pods, int(owner["spec"].get("minReadySeconds") or 0), now)) is not None:
            waits.append(wait)
        return min(waits, default=None)

    async def _merge(
        self, hand: RevisionHand, kept: Object, duplicates: tuple[Object, ...], pods: list[Object]
    ) -> list[Object]:
        """Give the pods of duplicates the kept revision's hash, then delete the duplicates; returns the pods."""
        digest = labels_of(kept)[POD_LABEL]
        others = {labels_of(duplicate).get(POD_LABEL) for duplicate in duplicates}
        patch = {"metadata": {"labels": {POD_LABEL: digest}}}
        made = [
            await self.client.patch(PODS, name_of(pod), patch, namespace_of(pod))
            if revision_label(pod) in others - {digest}
            else pod
            for pod in pods
        ]
        await hand.delete(duplicates)
        return made

    async def _carry_out(self, key: str, owner: Object, plan: DaemonPlan, digest: str) -> Exception | None:
        if not plan.create and not plan.delete:
            return None
        self.expected.expect(key, creations=len(plan.create), deletions=map(uid_of, plan.delete))

        async def create(number: int) -> None:
            try:
                await self.control.create(make_pod(owner, plan.create[number], digest), owner)
            except BaseException as exc:
                self.expected.created(key)
                if not (isinstance(exc, Exception) and namespace_terminates(exc)):
                    raise

        async def delete(pod: Object) -> None:
            try:
                await self.control.delete(pod, owner)
            except NotFound:
                self.expected.deleted(key, uid_of(pod))
            except BaseException:
                self.expected.deleted(key, uid_of(pod))
                raise

        made = await slow_start(len(plan.create), create)
        self.expected.created(key, made.skipped)
        results = await asyncio.gather(*map(delete, plan.delete), return_exceptions=True)
        failures = [r for r in results if isinstance(r, Exception)]
        return made.error or next(iter(failures), None)

    async def _write_status(self, owner: Object, status: Object) -> None:
        if status != (owner.get("status") or {}):
            changed = {**owner, "status": status}
            self.written.note(await self.client.update(DAEMONSETS, changed, subresource="status"))


def retired(old: list[Object], digests: set[str], limit: int) -> list[Object]:
    """Former revisions that no pod (by hash) is of, oldest first, so that `limit` are left of all former ones."""
    idle = [r for r in in_order(old) if labels_of(r).get(POD_LABEL) not in digests]
    return idle[: max(0, len(old) - limit)]


_EMPTY = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}


def build(env: Environment) -> list[Controller]:
    """The controller of DaemonSets."""
    client = env.client_for(ACCOUNT)
    sets, pods, nodes = env.informer(DAEMONSETS), env.informer(PODS), env.informer(NODES)
    recorder = env.recorder("daemonset-controller", ACCOUNT)
    expected, backoff = Expectations(env.clock), FailureBackoff(env.clock)
    reconciler = DaemonSetReconciler(
        sets=sets,
        pods=pods,
        nodes=nodes,
        revisions=env.informer(CONTROLLERREVISIONS),
        client=client,
        control=PodControl(client, recorder),
        pod_claimer=Claimer(client, DAEMONSETS, PODS),
        revision_claimer=Claimer(client, DAEMONSETS, CONTROLLERREVISIONS),
        recorder=recorder,
        expected=expected,
        backoff=backoff,
        clock=env.clock,
    )
    controller = Controller("daemonset", reconciler.reconcile, workers=env.options.concurrent("daemonset"))

    def set_changed(old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            backoff.forget(uid_of(old))
        controller.enqueue(key_of(new or old or {}))

    def node_changed(old: Object | None, new: Object | None) -> None:
        """Heartbeats concern no daemon; labels and taints do."""
        for owner in sets.list():
            before = should_run(owner, old) if old is not None else (False, False)
            after = should_run(owner, new) if new is not None else (False, False)
            if before != after or (new is None and before != (False, False)):
                controller.enqueue(key_of(owner))

    def revision_changed(old: Object | None, new: Object | None) -> None:
        """One that was deleted is made anew, and one without an owner adopted; others are looked at in time."""
        if new is None and old is not None and (owner := resolve(sets, DAEMONSETS, old)) is not None:
            controller.enqueue(key_of(owner))
        elif new is not None and controller_of(new) is None and not is_deleting(new):
            for match in selecting(sets.list(namespace_of(new)), new):
                controller.enqueue(key_of(match))

    sets.on_change(set_changed)
    follow(pods, sets, DAEMONSETS, controller.enqueue, expectations=expected)
    reconciler.revisions.on_change(revision_changed)
    nodes.on_change(node_changed)
    return [controller]
