"""What the scheduler knows of the cluster: informers feeding the node table and the queue.

Source: k8s.io/kubernetes/pkg/scheduler/eventhandlers.go (which event may help which pod).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.volumes import Volumes
from controlplane.scheduler.pod import Pod, compile_pod
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
from machinery.api.meta import Object, controller_of, is_deleting, key_of, labels_of, name_of, namespace_of
from machinery.cache.informer import Informers

_ROOM = frozenset({"NodeResourcesFit", "NodePorts", "InterPodAffinity", "PodTopologySpread", "VolumeRestrictions"})
_STORAGE = frozenset({"VolumeBinding", "VolumeRestrictions", "VolumeZone"})
_COMPANY = frozenset({"InterPodAffinity", "PodTopologySpread"})


class Cluster:
    """The scheduler's view. `nodes` and `queue` are changed by informer events, and by assuming and forgetting pods."""

    def __init__(self, informers: Informers, queue: SchedulingQueue, scheduler_names: Collection[str]) -> None:
        self.nodes = NodeTable()
        self.queue = queue
        self.nominated: dict[str, tuple[Pod, str]] = {}  # pods that wait for victims to go: (pod, node name)
        self._names = frozenset(scheduler_names)
        self._assumed: set[str] = set()
        self._services = informers.of(SERVICES)
        self._workloads = {
            "ReplicaSet": informers.of(REPLICASETS),
            "StatefulSet": informers.of(STATEFULSETS),
            "ReplicationController": informers.of(REPLICATIONCONTROLLERS),
        }
        self._budgets = informers.of(PODDISRUPTIONBUDGETS)
        self.volumes = Volumes(informers)
        for informer in (self.volumes.claims, self.volumes.volumes, self.volumes.classes):
            informer.on_change(lambda old, new: queue.cluster_changed(_STORAGE))
        informers.of(NAMESPACES).on_change(self._namespace_changed)
        informers.of(NODES).on_change(self._node_changed)
        self.pods = informers.of(PODS)
        self.pods.on_change(self._pod_changed)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def assume(self, pod: Pod, node_name: str) -> None:
        """Count the pod on the node already, before the API server has said so."""
        self._assumed.add(pod.key)
        self.nominated.pop(pod.key, None)
        self.nodes.place(pod, node_name)

    def confirm(self, pod: Pod) -> None:
        """The binding is stored; the informer will say so too."""
        self._assumed.discard(pod.key)
        self.queue.remove(pod.key)

    def forget(self, pod: Pod) -> None:
        """The binding failed: the pod is nowhere again."""
        self._assumed.discard(pod.key)
        current = self.pods.get(pod.key)
        if current is None or not current["spec"].get("nodeName"):
            self.nodes.forget(pod.key)
            self.queue.cluster_changed(_ROOM)

    def budgets(self) -> list[Object]:
        """All PodDisruptionBudgets."""
        return self._budgets.list()

    def selector_of(self, pod: Pod) -> Selector | None:
        """The selector of the workload and the services a pod belongs to; None if there are none.

        Source: scheduler/framework/plugins/helper DefaultSelector.
        """
        requirements: list[Requirement] = []
        for service in self._services.list(pod.namespace):
            wanted = service["spec"].get("selector")
            if wanted and all(pod.labels.get(key) == value for key, value in wanted.items()):
                requirements += label_selectors.from_map(wanted).requirements
        owner = controller_of(pod.object)
        workloads = self._workloads.get(owner["kind"]) if owner else None
        found = workloads.get(f"{pod.namespace}/{owner['name']}") if workloads and owner else None
        if found is not None:
            selector = found["spec"].get("selector") or {}
            plain = owner is not None and owner["kind"] == "ReplicationController"
            chosen = label_selectors.from_map(selector) if plain else label_selectors.from_selector(selector)
            requirements += chosen.requirements
        return Selector(tuple(dict.fromkeys(requirements))) if requirements else None

    # -- events ------------------------------------------------------------------------------------------------------

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        if pod is None:
            return
        key = key_of(pod)
        if new is None or (new.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._assumed.discard(key)
            self.nominated.pop(key, None)
            self.queue.remove(key)
            self.nodes.forget(key)
            if pod["spec"].get("nodeName") or old is not None:
                self.queue.cluster_changed(_ROOM)
            return
        if new["spec"].get("nodeName"):
            self._bound(old, new, key)
        elif key not in self._assumed:
            self._waiting(old, new)

    def _bound(self, old: Object | None, new: Object, key: str) -> None:
        self._assumed.discard(key)
        self.nominated.pop(key, None)
        self.queue.remove(key)
        placed = self.nodes.placed(key)
        pod = compile_pod(new, self.nodes.names)
        node_name = pod.node_name
        if placed is not None and placed[0].signature == pod.signature and self.nodes.name(placed[1]) == node_name:
            return
        self.nodes.place(pod, node_name)
        if placed is None or (old is not None and labels_of(old) != labels_of(new)):
            self.queue.cluster_changed(_COMPANY)
        elif placed[0].asked != pod.asked:
            self.queue.cluster_changed(_ROOM)  # resized in place

    def _waiting(self, old: Object | None, new: Object) -> None:
        if is_deleting(new) or (new["spec"].get("schedulerName") or "default-scheduler") not in self._names:
            self.queue.remove(key_of(new))
            return
        pod = compile_pod(new, self.nodes.names)
        if old is None or _deciding(old) != _deciding(new):
            self.queue.add(pod)
        else:
            self.queue.update(pod)
        nominated = (new.get("status") or {}).get("nominatedNodeName")
        if nominated and old is None:  # chosen by a predecessor of ours
            self.nominated[pod.key] = (pod, nominated)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self.nodes.remove_node(name_of(old))
            return
        if old is not None and all(_same(old, new, part) for part in _NODE_PARTS):
            return
        self.nodes.set_node(new)
        self.queue.cluster_changed(None)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        namespace = new if new is not None else old
        if namespace is not None:
            self.nodes.terms.set_namespace(name_of(namespace), None if new is None else labels_of(new))


_NODE_PARTS: tuple[Callable[[Object], object], ...] = (
    lambda node: (node.get("status") or {}).get("allocatable"),
    labels_of,
    lambda node: node["spec"].get("taints"),
    lambda node: node["spec"].get("unschedulable"),
    lambda node: (node.get("status") or {}).get("images"),
)


def _same(old: Object, new: Object, part: Callable[[Object], object]) -> bool:
    return part(old) == part(new)


def _deciding(pod: Object) -> tuple[object, ...]:
    return pod["spec"], labels_of(pod), namespace_of(pod)
