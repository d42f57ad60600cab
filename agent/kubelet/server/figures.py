"""/metrics: what is counted elsewhere, and what is only known when somebody asks.

Source: k8s.io/kubernetes pkg/kubelet/metrics and metrics/collectors (volume_stats.go); volumemanager/metrics.
"""

from __future__ import annotations

import contextlib
from collections import Counter as Count

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest

from agent.kubelet import metrics
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.pods.manager import PodManager
from agent.kubelet.server.filesystem import filesystem
from machinery.api import meta

_NODE_NAME = Gauge("kubelet_node_name", "The node's name. The count is always 1.", ["node"])
_PODS = Gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox")
_CONTAINERS = Gauge("kubelet_running_containers", "Number of containers currently running", ["container_state"])
_DESIRED = Gauge(
    "kubelet_desired_pods",
    "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
    ["static"],
)
_ACTIVE = Gauge(
    "kubelet_active_pods",
    "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is "
    "true if the pod is not from the apiserver.",
    ["static"],
)
_MIRRORS = Gauge(
    "kubelet_mirror_pods",
    "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
)
_EPHEMERAL = Gauge(
    "kubelet_managed_ephemeral_containers",
    "Current number of ephemeral containers in pods managed by this kubelet.",
)
_SHARED_CPUS = Gauge(
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
)
_OWN_CPUS = Gauge(
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "The total number of CPUs exclusively allocated to containers running on this node",
)
_VOLUMES = Gauge("volume_manager_total_volumes", "Number of volumes in Volume Manager", ["plugin_name", "state"])
_CLAIM = ("namespace", "persistentvolumeclaim")
_OF_CLAIMS = {
    name: Gauge(f"kubelet_volume_stats_{name}", text, _CLAIM)
    for name, text in (
        ("capacity_bytes", "Capacity in bytes of the volume"),
        ("available_bytes", "Number of available bytes in the volume"),
        ("used_bytes", "Number of used bytes in the volume"),
        ("inodes", "Maximum number of inodes in the volume"),
        ("inodes_free", "Number of free inodes in the volume"),
        ("inodes_used", "Number of used inodes in the volume"),
    )
}
_FIELDS = {
    "capacity_bytes": "capacityBytes",
    "available_bytes": "availableBytes",
    "used_bytes": "usedBytes",
    "inodes": "inodes",
    "inodes_free": "inodesFree",
    "inodes_used": "inodesUsed",
}
"""Of FsStats, by the name of the metric."""


def exposition(kit: Kit, manager: PodManager, registry: CollectorRegistry = REGISTRY) -> bytes:
    """All metrics, as they are now, in Prometheus' text format."""
    _refresh(kit, manager)
    text = generate_latest(registry)
    for name in metrics.PLAIN_COUNTERS:
        text = text.replace(f"# TYPE {name} gauge\n".encode(), f"# TYPE {name} counter\n".encode())
    return text


def _refresh(kit: Kit, manager: PodManager) -> None:
    _NODE_NAME.labels(kit.node.name).set(1)
    metrics.CGROUP_VERSION.set(2 if kit.cgroups.unified else 1)
    runtime = list(kit.view.pods.values())
    _PODS.set(sum(1 for pod in runtime if pod.ready_sandbox is not None))
    states = Count(container.state for pod in runtime for container in pod.containers)
    for state in ("created", "running", "exited", "unknown"):
        _CONTAINERS.labels(state).set(states[state])
    desired = Count(spec.is_static(pod) for pod in manager.pods)
    active = Count(spec.is_static(pod) for pod in kit.active_pods())
    for static in (False, True):
        _DESIRED.labels(str(static).lower()).set(desired[static])
        _ACTIVE.labels(str(static).lower()).set(active[static])
    _MIRRORS.set(desired[True])
    _EPHEMERAL.set(sum(len(spec.ephemeral_containers(pod)) for pod in manager.pods))
    if kit.cpus.is_static:
        _SHARED_CPUS.set(1000 * len(kit.cpus.shared & kit.cpus.allocatable))
        _OWN_CPUS.set(kit.cpus.given_count)
    _refresh_volumes(manager)


def _refresh_volumes(manager: PodManager) -> None:
    for gauge in (_VOLUMES, *_OF_CLAIMS.values()):
        gauge.clear()
    for pod in manager.pods:
        mounted = manager.volumes_of(meta.uid_of(pod))
        for volume in pod["spec"].get("volumes") or ():
            plugin = spec.volume_plugin(volume)
            _VOLUMES.labels(plugin, "desired_state_of_world").inc()
            found = mounted.get(volume["name"])
            if found is None:
                continue
            _VOLUMES.labels(plugin, "actual_state_of_world").inc()
            claim = spec.claim_of(pod, volume)
            if claim and not found.device:
                _measure(found.path, (meta.namespace_of(pod), claim))


def _measure(path: str, claim: tuple[str, str]) -> None:
    with contextlib.suppress(OSError):
        found = filesystem(path)
        for name, field in _FIELDS.items():
            _OF_CLAIMS[name].labels(*claim).set(found[field])
