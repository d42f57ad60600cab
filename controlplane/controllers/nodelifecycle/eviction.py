"""NoExecute taints: pods that don't tolerate them are deleted, others when their time is up.

Source: k8s.io/kubernetes/pkg/controller/tainteviction/taint_eviction.go; KEP-166.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers import metrics
from controlplane.controllers.environment import NODE_INDEX, Environment
from controlplane.controllers.nodelifecycle.plan import Stay, stay_of, taints_of
from controlplane.controllers.pods import is_finished, node_of
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object, format_time, is_deleting, key_of, name_of, namespace_of, parse_time, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder

ACCOUNT = "node-controller"


def eviction_time(pod: Object, stay: Stay, first_seen: datetime) -> datetime | None:
    """When the pod must go; None: never. `first_seen` is when this process first saw pod and taints together."""
    if stay.seconds is None:
        return None
    since = stay.since or first_seen
    created = pod["metadata"].get("creationTimestamp")
    if created:
        since = max(since, parse_time(created))  # a pod that came after the taint has its full time
    return datetime.fromtimestamp(since.timestamp() + stay.seconds, tz=since.tzinfo)


@dataclass(frozen=True)
class Evictor:
    """Deletes pods that taints drive out, and says so first."""

    client: Client
    recorder: EventRecorder
    clock: Clock
    event: str
    reason: str
    """Of the pod's DisruptionTarget condition; so is `message`."""

    message: str

    async def evict(self, pod: Object) -> None:
        """Mark the pod, then delete it."""
        self.recorder.normal(pod, self.event, f"Marking for deletion Pod {key_of(pod)}")
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": format_time(self.clock.now()),
            "observedGeneration": pod["metadata"].get("generation", 0),
        }
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [target]}}
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            await self.client.patch(PODS, name, patch, namespace, content_type=STRATEGIC, subresource="status")
            await self.client.delete(PODS, name, namespace, uid=uid_of(pod))
        except NotFound:
            return


@dataclass(frozen=True)
class TaintEviction:
    """Decides about one pod at a time."""

    pods: Informer
    nodes: Informer
    evictor: Evictor
    recorder: EventRecorder
    clock: Clock
    seen: dict[str, datetime] = field(default_factory=dict)
    """Pods (by uid) on tainted nodes: since when."""

    planned: set[str] = field(default_factory=set)
    """Pods (by uid) whose eviction lies in the future."""

    async def reconcile(self, key: str) -> float | None:
        """Evict the pod, or return seconds until it must go."""
        pod = self.pods.get(key)
        if pod is None:
            return None
        uid = uid_of(pod)
        node = self.nodes.get(node_of(pod)) if node_of(pod) else None
        taints = [t for t in taints_of(node) if t["effect"] == "NoExecute"] if node is not None else []
        if not taints or is_deleting(pod) or is_finished(pod):
            self._cancel(pod)
            return None
        now = self.clock.now()
        when = eviction_time(pod, stay_of(pod, taints), self.seen.setdefault(uid, now))
        if when is None:
            self._cancel(pod)
            return None
        if when > now:
            self.planned.add(uid)
            return (when - now).total_seconds()
        await self.evictor.evict(pod)
        metrics.TAINT_DELETIONS.inc()
        metrics.TAINT_DELETION_SECONDS.observe((self.clock.now() - when).total_seconds())
        self.planned.discard(uid)
        return None

    def forget(self, pod: Object) -> None:
        """The pod is gone."""
        self.seen.pop(uid_of(pod), None)
        self.planned.discard(uid_of(pod))

    def _cancel(self, pod: Object) -> None:
        self.seen.pop(uid_of(pod), None)
        if uid_of(pod) in self.planned:
            self.planned.discard(uid_of(pod))
            self.recorder.normal(pod, "TaintManagerEviction", f"Cancelling deletion of Pod {key_of(pod)}")


def build(env: Environment) -> list[Controller]:
    """The controller that evicts pods from tainted nodes."""
    pods, nodes = env.informer(PODS), env.informer(NODES)
    recorder = env.recorder("taint-eviction-controller", ACCOUNT)
    evictor = Evictor(
        env.client_for(ACCOUNT),
        recorder,
        env.clock,
        event="TaintManagerEviction",
        reason="DeletionByTaintManager",
        message="Taint manager: deleting due to NoExecute taint",
    )
    eviction = TaintEviction(pods, nodes, evictor, recorder, env.clock)
    controller = Controller("taint_eviction", eviction.reconcile, workers=8)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                eviction.forget(old)
            return
        moved = old is None or node_of(old) != node_of(new)
        if moved or (old is not None and old["spec"].get("tolerations") != new["spec"].get("tolerations")):
            controller.enqueue(key_of(new))

    def node_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and (taints_of(new) if old is None else taints_of(old) != taints_of(new)):
            for pod in pods.by_index(NODE_INDEX, name_of(new)):
                controller.enqueue(key_of(pod))

    pods.on_change(pod_changed)
    nodes.on_change(node_changed)
    return [controller]
