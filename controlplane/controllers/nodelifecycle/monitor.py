"""Watching over nodes' heartbeats: every few seconds, all nodes.

Source: k8s.io/kubernetes/pkg/controller/nodelifecycle/node_lifecycle_controller.go, "monitorNodeHealth".
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from controlplane.controllers import metrics
from controlplane.controllers.environment import NODE_INDEX
from controlplane.controllers.nodelifecycle.plan import (
    EvictionRates,
    Heartbeat,
    ZoneState,
    counts_for_zone,
    no_execute_taints,
    no_schedule_taints,
    observe,
    older_labels,
    ready_status,
    silent_conditions,
    spared,
    taints_of,
    zone_of,
    zone_state,
)
from controlplane.controllers.pods import is_ready
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object, format_time, is_deleting, name_of, namespace_of, parse_time, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.errors import Conflict, NotFound
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)


@dataclass
class Budget:
    """How many nodes of a zone may still be tainted NoExecute: one token a node, refilled at the zone's rate."""

    tokens: float
    filled_at: float

    def take(self, rate: float, now: float) -> bool:
        """Take a token if there is one."""
        self.tokens = min(1.0, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if rate <= 0 or self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(frozen=True)
class NodeMonitor:
    """Marks silent nodes, their pods, and taints what is not ready."""

    nodes: Informer
    leases: Informer
    pods: Informer
    client: Client
    recorder: EventRecorder
    clock: Clock
    grace_seconds: float
    startup_grace_seconds: float
    rates: EvictionRates
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    last_ready: dict[str, str] = field(default_factory=dict)
    unmarked: set[str] = field(default_factory=set)
    """Nodes whose pods could not yet all be marked not ready."""

    budgets: dict[str, Budget] = field(default_factory=dict)
    everything_down: list[bool] = field(default_factory=lambda: [False])
    """Whether, at the last look, no node at all was ready: then it is rather the manager that is cut off."""

    async def round(self) -> None:
        """One look at all nodes."""
        started = time.perf_counter()
        nodes = {name_of(node): node for node in self.nodes.list()}
        for name in self.heartbeats.keys() - nodes.keys():
            del self.heartbeats[name]
            self.last_ready.pop(name, None)
            self.unmarked.discard(name)
        states = dict(zip(nodes, await asyncio.gather(*(self._look_at(node) for node in nodes.values())), strict=True))
        metrics.NODES_SECONDS.observe(time.perf_counter() - started)
        current = [node for node in states.values() if node is not None]
        rates = self._zone_rates(current)
        for node in current:
            await self._mark_pods(node)
        if self.everything_down[0]:
            await asyncio.gather(*(self._write_taints(node, spared(node)) for node in current))
            return
        await asyncio.gather(*(self.taint(node, rates[zone_of(node)]) for node in current))

    async def _look_at(self, node: Object) -> Object | None:
        """The node after its heartbeat was judged; None if it is gone."""
        name, now = name_of(node), self.clock.monotonic()
        created = node["metadata"].get("creationTimestamp")
        age = (self.clock.now() - parse_time(created)).total_seconds() if created else 0.0
        first_seen = name not in self.heartbeats
        lease = self.leases.get(f"kube-node-lease/{name}")
        beat = self.heartbeats[name] = observe(self.heartbeats.get(name), node, lease, now, age)
        if first_seen:
            self.recorder.normal(node, "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller")
        grace = self.grace_seconds if beat.posted else self.startup_grace_seconds
        if now - beat.seen_at <= grace:
            return node
        conditions = silent_conditions(node, self.clock.now())
        if conditions == (node.get("status") or {}).get("conditions"):
            return node
        log.info("node is silent", node=name, seconds=now - beat.seen_at)
        status = {**(node.get("status") or {}), "conditions": conditions}
        try:
            return await self.client.update(NODES, {**node, "status": status}, subresource="status")
        except NotFound:
            return None
        except Conflict:
            return node  # it changed: perhaps it spoke; judged again next time

    # -- pods of nodes that are not ready ------------------------------------------------------------------------------

    async def _mark_pods(self, node: Object) -> None:
        """When a node stops being ready, its pods do too: nobody else can say so."""
        name, status = name_of(node), ready_status(node)
        before = self.last_ready.get(name)
        self.last_ready[name] = status
        if status in ("True", ""):
            self.unmarked.discard(name)
            return
        if before == "True":
            self.recorder.normal(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        if before == status and name not in self.unmarked:
            return
        self.unmarked.add(name)
        await asyncio.gather(*map(self._mark_pod, self.pods.by_index(NODE_INDEX, name)))
        self.unmarked.discard(name)

    async def _mark_pod(self, pod: Object) -> None:
        if not is_ready(pod):
            return
        status = {
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": format_time(self.clock.now())}]
        }
        patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
        try:
            await self.client.patch(
                PODS, name_of(pod), patch, namespace_of(pod), content_type=STRATEGIC, subresource="status"
            )
        except (NotFound, Conflict):
            return
        self.recorder.warning(pod, "NodeNotReady", "Node is not ready")

    # -- taints --------------------------------------------------------------------------------------------------------

    def _zone_rates(self, nodes: list[Object]) -> dict[str, float]:
        zones: dict[str, list[Object]] = defaultdict(list)
        for node in nodes:
            zones[zone_of(node)].append(node)
        for zone, members in zones.items():
            silent = sum(ready_status(node) != "True" for node in members)
            metrics.ZONE_SIZE.labels(zone).set(len(members))
            metrics.ZONE_UNHEALTHY.labels(zone).set(silent)
            metrics.ZONE_HEALTH.labels(zone).set(100 * (len(members) - silent) / len(members))
        states = {
            zone: zone_state(filter(counts_for_zone, members), self.rates.unhealthy_share)
            for zone, members in zones.items()
        }
        before = self.everything_down[0]
        after = self.everything_down[0] = bool(states) and all(state is ZoneState.FULL for state in states.values())
        if before and not after:  # nobody was heard while this process was deaf: every node gets its time again
            now = self.clock.monotonic()
            self.heartbeats.update({name: replace(beat, seen_at=now) for name, beat in self.heartbeats.items()})
        return {
            zone: self.rates.of(states[zone], len(members), everything_down=after) for zone, members in zones.items()
        }

    async def reconcile(self, key: str) -> float | None:
        """Bring the taints of one node up to date as soon as its conditions change, but for evicting ones to come."""
        node = self.nodes.get(key)
        if node is not None and not is_deleting(node):
            if labels := older_labels(node):
                await self._patch(node, {"metadata": {"labels": labels}})
            wanted = no_execute_taints(node, no_schedule_taints(node), self.clock.now(), may_evict=False)
            await self._write_taints(node, wanted)
        return None

    async def taint(self, node: Object, rate: float) -> None:
        """Bring all taints of a node up to date; a new NoExecute taint takes from its zone's budget."""
        now = self.clock.now()
        base = no_schedule_taints(node)
        wanted = no_execute_taints(node, base, now, may_evict=True)
        if wanted != (cautious := no_execute_taints(node, base, now, may_evict=False)):
            budget = self.budgets.setdefault(zone_of(node), Budget(1.0, self.clock.monotonic()))
            if not budget.take(rate, self.clock.monotonic()):
                wanted = cautious
            else:
                metrics.NODE_EVICTIONS.labels(zone_of(node)).inc()
        await self._write_taints(node, wanted)

    async def _write_taints(self, node: Object, taints: list[Object]) -> None:
        if taints == taints_of(node):
            return
        metadata = {"resourceVersion": node["metadata"]["resourceVersion"]}
        # The list is replaced as a whole, on the revision that was looked at.
        await self._patch(node, {"metadata": metadata, "spec": {"taints": taints or None}})

    async def _patch(self, node: Object, patch: Object) -> None:
        try:
            await self.client.patch(NODES, name_of(node), patch)
        except (NotFound, Conflict):
            return  # looked at again when the change is seen
