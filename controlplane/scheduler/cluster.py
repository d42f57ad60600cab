"""What the scheduler knows of the cluster: informers feeding the node table and the queue.

Source: k8s.io/kubernetes/pkg/scheduler/eventhandlers.go (which event may help which pod).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from controlplane.scheduler import hints
from controlplane.scheduler.hints import Change
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod, Shape
from controlplane.scheduler.queue import SchedulingQueue
from machinery.api import labels as label_selectors
from machinery.api.catalogue import (
    NAMESPACES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
)
from machinery.api.labels import Requirement, Selector
from machinery.api.meta import Object, annotations_of, is_deleting, key_of, labels_of, name_of, uid_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer, Informers

_LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"


def without_managed_fields(obj: Object) -> Object:
    """An object without what nobody here reads."""
    metadata = obj["metadata"]
    if "managedFields" in metadata:
        del metadata["managedFields"]
    return obj


class Workloads:
    """Which workload and services pods belong to: by their selectors such pods spread even if nobody asks."""

    def __init__(self, informers: Informers) -> None:
        def of(kind: ResourceType) -> Informer:
            return informers.of(kind, transform=without_managed_fields)

        self._services = of(SERVICES)
        self._kinds = {
            "ReplicaSet": of(REPLICASETS),
            "StatefulSet": of(STATEFULSETS),
            "ReplicationController": of(REPLICATIONCONTROLLERS),
        }

    def selector_of(self, shape: Shape) -> Selector | None:
        """The selector of the workload and the services a pod belongs to; None if there are none.

        Source: scheduler/framework/plugins/helper DefaultSelector.
        """
        requirements: list[Requirement] = []
        for service in self._services.list(shape.namespace):
            wanted = service["spec"].get("selector")
            if wanted and all(shape.labels.get(key) == value for key, value in wanted.items()):
                requirements += label_selectors.from_map(wanted).requirements
        kind, name = shape.owner
        found = self._kinds[kind].get(f"{shape.namespace}/{name}") if kind in self._kinds else None
        if found is not None:
            selector = found["spec"].get("selector") or {}
            plain = kind == "ReplicationController"
            chosen = label_selectors.from_map(selector) if plain else label_selectors.from_selector(selector)
            requirements += chosen.requirements
        return Selector(tuple(dict.fromkeys(requirements))) if requirements else None


class Cluster:
    """The scheduler's view. `nodes` and `queue` are changed by informer events, and by assuming and forgetting pods."""

    def __init__(
        self, informers: Informers, nodes: NodeTable, queue: SchedulingQueue, scheduler_names: Collection[str]
    ) -> None:
        self.nodes = nodes
        self.queue = queue
        self.nominated: dict[str, tuple[Pod, str]] = {}  # pods that wait for victims to go: (pod, node name)
        self.assumed: set[str] = set()
        self._names = frozenset(scheduler_names)
        self._budgets = informers.of(PODDISRUPTIONBUDGETS)
        informers.of(NAMESPACES).on_change(self._namespace_changed)
        informers.of(NODES, transform=without_managed_fields).on_change(self._node_changed)
        self.pods = informers.of(PODS, field_selector=_LIVE_PODS, transform=without_managed_fields)
        self.pods.on_change(self._pod_changed)

    def follow(self, kind: str, informer: Informer) -> None:
        """Have pods that plugins turned away tried again when objects of this kind change."""

        def changed(old: Object | None, new: Object | None) -> None:
            event = hints.added(kind) if old is None else hints.deleted(kind) if new is None else hints.updated(kind)
            self.queue.cluster_changed(Change(event, old, new))

        informer.on_change(changed)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def assume(self, pod: Pod, node_name: str) -> None:
        """Count the pod on the node already, before the API server has said so."""
        self.assumed.add(pod.key)
        self.nominated.pop(pod.key, None)
        self.nodes.place(pod, node_name)

    def confirm(self, pod: Pod) -> None:
        """The binding is stored; the informer will say so too."""
        self.assumed.discard(pod.key)
        self.queue.remove(pod.key)

    def forget(self, pod: Pod) -> None:
        """The binding failed: the pod is nowhere again."""
        self.assumed.discard(pod.key)
        current = self.pods.get(pod.key)
        if current is None or not current["spec"].get("nodeName"):
            self.nodes.forget(pod.key)
            self.queue.cluster_changed(Change(hints.POD_DELETE, pod, None))

    def nominate(self, pod: Pod, node_name: str) -> None:
        """Keep room on the node for the pod; with "" no longer."""
        if node_name:
            self.nominated[pod.key] = (pod, node_name)
        else:
            self.nominated.pop(pod.key, None)

    def ahead_of(self, pod: Pod) -> list[tuple[Pod, int]]:
        """Pods at least as important that have room kept for them, with the row of their node."""
        if not self.nominated:
            return []
        return [
            (other, row)
            for other, name in self.nominated.values()
            if other.key != pod.key and other.priority >= pod.priority and (row := self.nodes.row(name)) is not None
        ]

    def outranked(self, pod: Pod, node_name: str) -> list[Pod]:
        """Less important pods that have room kept on this node."""
        return [other for other, name in self.nominated.values() if name == node_name and other.priority < pod.priority]

    def budgets(self) -> list[Object]:
        """All PodDisruptionBudgets."""
        return self._budgets.list()

    # -- events ------------------------------------------------------------------------------------------------------

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (new.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            if old is not None:
                self._gone(old)
        elif new["spec"].get("nodeName"):
            self._bound(new, key_of(new))
        elif key_of(new) not in self.assumed:
            self._waiting(old, new)

    def _gone(self, old: Object) -> None:
        key = key_of(old)
        placed = self.nodes.placed(key)
        waited = self.nominated.pop(key, None)
        self.assumed.discard(key)
        self.queue.remove(key)
        self.nodes.forget(key)
        left = placed[0] if placed is not None else waited[0] if waited is not None else None
        if left is not None or old["spec"].get("nodeName"):
            self.queue.cluster_changed(Change(hints.POD_DELETE, left, None))

    def _bound(self, new: Object, key: str) -> None:
        self.assumed.discard(key)
        self.nominated.pop(key, None)
        self.queue.remove(key)
        pod = self.nodes.shapes.pod(new)
        placed = self.nodes.placed(key)
        if placed is not None and placed[0].shape is pod.shape and self.nodes.name(placed[1]) == pod.node_name:
            self.nodes.replace(pod)
            if placed[0].node_name != pod.node_name:  # it was assumed until now
                self.queue.cluster_changed(Change(hints.POD_ADD, None, pod))
            return
        self.nodes.place(pod, pod.node_name)
        if placed is None:
            self.queue.cluster_changed(Change(hints.POD_ADD, None, pod))
            return
        before, after = placed[0].shape, pod.shape
        if before.labels != after.labels or before.counted_as != after.counted_as:
            self.queue.cluster_changed(Change(hints.POD_LABEL, placed[0], pod))
        if any(number > after.asked.get(column, 0) for column, number in before.asked.items()):
            self.queue.cluster_changed(Change(hints.POD_SCALE_DOWN, placed[0], pod))

    def _waiting(self, old: Object | None, new: Object) -> None:
        if is_deleting(new) or (new["spec"].get("schedulerName") or "default-scheduler") not in self._names:
            self.queue.remove(key_of(new))
            self.nominated.pop(key_of(new), None)
            return
        pod = self.nodes.shapes.pod(new)
        known = self.queue.known(pod.key)
        gates = new["spec"].get("schedulingGates")
        same = known is not None and known.shape is pod.shape and known.spec.get("schedulingGates") == gates
        if same and known is not None and known.uid == pod.uid:
            self.queue.update(pod)
        else:
            self.queue.add(pod)
        if old is None or (old.get("status") or {}).get("nominatedNodeName", "") != pod.nominated_node:
            self.nominate(pod, pod.nominated_node)  # by ourselves, or by a predecessor

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self.nodes.remove_node(name_of(old))
                self.queue.cluster_changed(Change(hints.NODE_DELETE, old, None))
            return
        if old is None or self.nodes.row(name_of(new)) is None:
            self.nodes.set_node(new)
            self.queue.cluster_changed(Change(hints.NODE_ADD, None, new))
            return
        events = list(node_events(old, new))
        if _COUNTING.intersection(events) or _images(old) != _images(new):
            self.nodes.set_node(new)
        for event in events:
            self.queue.cluster_changed(Change(event, old, new))

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        namespace = new if new is not None else old
        if namespace is not None:
            self.nodes.set_namespace(name_of(namespace), None if new is None else labels_of(new))


_NODE_PARTS: tuple[tuple[str, Callable[[Object], object]], ...] = (
    (hints.NODE_ALLOCATABLE, lambda node: (node.get("status") or {}).get("allocatable")),
    (hints.NODE_LABEL, labels_of),
    (hints.NODE_TAINT, lambda node: (node["spec"].get("taints"), bool(node["spec"].get("unschedulable")))),
    (hints.NODE_FEATURE, lambda node: (node.get("status") or {}).get("declaredFeatures")),
    (hints.NODE_ANNOTATION, annotations_of),
    (
        hints.NODE_CONDITION,
        lambda node: {c["type"]: c["status"] for c in (node.get("status") or {}).get("conditions") or ()},
    ),
)


_COUNTING = frozenset((hints.NODE_ADD, hints.NODE_ALLOCATABLE, hints.NODE_LABEL, hints.NODE_TAINT, hints.NODE_FEATURE))
"""Events after which the table is another."""


def _images(node: Object) -> object:
    return (node.get("status") or {}).get("images")


def node_events(old: Object, new: Object) -> Iterable[str]:
    """What of a node has changed that pods may wait for; heartbeats are not among it."""
    if uid_of(old) != uid_of(new):
        yield hints.NODE_ADD
        return
    for event, part in _NODE_PARTS:
        if part(old) != part(new):
            yield event
