"""Pods that nothing else would ever remove: too many finished ones, those of nodes that are gone, those never bound.

Source: k8s.io/kubernetes/pkg/controller/podgc/gc_controller.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.pods import is_finished, node_of
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object, format_time, is_deleting, name_of, namespace_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NavarchError, NotFound
from machinery.log import get_logger
from machinery.periodic import every

log = get_logger(__name__)

ACCOUNT = "pod-garbage-collector"
PERIOD_SECONDS = 20.0
QUARANTINE_SECONDS = 40.0
_ORPHANED = "orphaned"
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def surplus_finished(pods: Iterable[Object], threshold: int) -> list[Object]:
    """Finished pods beyond the threshold: evicted ones first, then the oldest."""
    if threshold <= 0:
        return []
    finished = [pod for pod in pods if is_finished(pod)]

    def rank(pod: Object) -> tuple[bool, str, str]:
        evicted = (pod.get("status") or {}).get("reason") == "Evicted"
        return not evicted, str(pod["metadata"].get("creationTimestamp") or ""), name_of(pod)

    return sorted(finished, key=rank)[: max(0, len(finished) - threshold)]


def unscheduled_deleting(pods: Iterable[Object]) -> list[Object]:
    """Pods being deleted that no kubelet will ever report gone, as they were never bound."""
    return [pod for pod in pods if is_deleting(pod) and not node_of(pod)]


def orphaned(pods: Iterable[Object], nodes: set[str]) -> list[Object]:
    """Pods bound to nodes that do not exist."""
    return [pod for pod in pods if node_of(pod) and node_of(pod) not in nodes]


def out_of_service(pods: Iterable[Object], nodes: Iterable[Object]) -> list[Object]:
    """Pods being deleted on nodes that are down and marked as never coming back with them."""
    marked = {name_of(node) for node in nodes if _is_out_of_service(node)}
    return [pod for pod in pods if is_deleting(pod) and node_of(pod) in marked]


def _is_out_of_service(node: Object) -> bool:
    taints = (node.get("spec") or {}).get("taints") or ()
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return not ready and any(taint.get("key") == _OUT_OF_SERVICE for taint in taints)


@dataclass(frozen=True)
class PodCollector:
    """Removes such pods, with force."""

    pods: Informer
    nodes: Informer
    client: Client
    clock: Clock
    threshold: int
    missing_since: dict[str, float] = field(default_factory=dict)
    """Nodes that pods are bound to and that are not in the cache."""

    async def collect(self) -> None:
        """One round."""
        pods, nodes = self.pods.list(), self.nodes.list()
        doomed = {uid_of(pod): (pod, "terminated") for pod in surplus_finished(pods, self.threshold)}
        doomed |= {uid_of(pod): (pod, "unscheduled") for pod in unscheduled_deleting(pods)}
        doomed |= {uid_of(pod): (pod, "out-of-service") for pod in out_of_service(pods, nodes)}
        gone = await self._gone_nodes(pods, {name_of(node) for node in nodes})
        doomed |= {uid_of(pod): (pod, _ORPHANED) for pod in pods if node_of(pod) in gone}
        await asyncio.gather(*(self._collect(pod, reason) for pod, reason in doomed.values()))

    async def _gone_nodes(self, pods: list[Object], present: set[str]) -> set[str]:
        """Nodes missing for longer than the quarantine, that the API server confirms not to exist."""
        now = self.clock.monotonic()
        missing = {node_of(pod) for pod in orphaned(pods, present)}
        for name in self.missing_since.keys() - missing:
            del self.missing_since[name]
        for name in missing:
            self.missing_since.setdefault(name, now)
        due = [name for name, since in self.missing_since.items() if now - since >= QUARANTINE_SECONDS]
        return {name for name in due if not await self._exists(name)}

    async def _exists(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except NotFound:
            return False
        return True

    async def _collect(self, pod: Object, reason: str) -> None:
        metrics.PODS_COLLECTED.labels(namespace_of(pod), reason).inc()
        try:
            await self._delete(pod, "PodGC: node no longer exists" if reason == _ORPHANED else "")
        except NavarchError:
            metrics.PODS_NOT_COLLECTED.labels(namespace_of(pod), reason).inc()
            raise

    async def _delete(self, pod: Object, disruption: str) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        log.info("collecting pod", pod=f"{namespace}/{name}")
        try:
            if (not is_finished(pod) and is_deleting(pod)) or disruption:
                await self._mark_failed(pod, disruption)
            await self.client.delete(PODS, name, namespace, grace_seconds=0, uid=uid_of(pod))
        except NotFound:
            return

    async def _mark_failed(self, pod: Object, disruption: str) -> None:
        """Nobody else will say what became of it: it failed."""
        if is_finished(pod):
            return
        status: Object = {"phase": "Failed"}
        if disruption:
            stamp = format_time(self.clock.now())
            status["conditions"] = [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": disruption,
                    "lastTransitionTime": stamp,
                    "observedGeneration": pod["metadata"].get("generation", 0),
                }
            ]
        patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
        await self.client.patch(
            PODS, name_of(pod), patch, namespace_of(pod), content_type=STRATEGIC, subresource="status"
        )


def build(env: Environment) -> list[Controller]:
    """The collector of pods."""
    threshold = int(env.options["terminated-pod-gc-threshold"])
    client = env.client_for(ACCOUNT)
    collector = PodCollector(env.informer(PODS), env.informer(NODES), client, env.clock, threshold)
    return [every("pod_gc", PERIOD_SECONDS, collector.collect)]
