"""Which pod is evicted first, and what its user is told. Pure.

Source: Node-pressure Eviction, "Pod selection for kubelet eviction"; kubelet's eviction/helpers.go; messages as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.kubelet.eviction.thresholds import RESOURCES, Observation, Threshold, as_bytes, shown
from agent.kubelet.pods import spec
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object


@dataclass(frozen=True, slots=True)
class Use:
    """What a pod uses: bytes of memory and disk, inodes, processes; and each of its containers' memory and disk."""

    memory: int = 0
    disk: int = 0
    inodes: int = 0
    processes: int = 0
    container_memory: Mapping[str, int] = field(default_factory=dict)
    container_disk: Mapping[str, int] = field(default_factory=dict)


def _requested(pod: Object, name: str) -> int:
    amount = podresources.of_pod(pod).get(name)
    return amount.value() if amount is not None else 0


def _priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def ranked(signal: str, pods: Iterable[Object], uses: Mapping[str, Use]) -> list[Object]:
    """The pods in the order in which they are to go."""
    resource = RESOURCES[signal]

    def order(pod: Object) -> tuple[int, ...]:
        use = uses.get(meta.uid_of(pod), Use())
        known = meta.uid_of(pod) in uses  # of whom nothing is known goes first
        if resource == "memory":
            asked = _requested(pod, "memory")
            return (known, -(use.memory > asked), _priority(pod), asked - use.memory)
        if resource == "ephemeral-storage":
            asked = _requested(pod, "ephemeral-storage")
            return (known, -(use.disk > asked), _priority(pod), asked - use.disk)
        if resource == "inodes":
            return (known, -(use.inodes > 0), _priority(pod), -use.inodes)
        return (_priority(pod), known, -use.processes)

    return sorted(pods, key=order)


def message(threshold: Threshold, seen: Observation | None, pod: Object, use: Use) -> str:
    """Why this pod had to go."""
    resource = RESOURCES[threshold.signal]
    told = f"The node was low on resource: {resource}. "
    if seen is not None:
        limit = shown(threshold.signal, threshold.amount(seen.capacity))
        told += f"Threshold quantity: {limit}, available: {shown(threshold.signal, seen.available)}. "
    by_container = {"memory": use.container_memory, "ephemeral-storage": use.container_disk}.get(resource, {})
    for container in [*spec.init_containers(pod), *spec.containers(pod)]:
        used = by_container.get(container["name"])
        request = podresources.of_container(container).get(resource)
        if used is None:
            continue
        if request is None or used > request.value():
            asked = str(request) if request is not None else "0"
            told += (
                f"Container {container['name']} was using {as_bytes(used)}, request is {asked}, "
                f"has larger consumption of {resource}. "
            )
    return told


def over_own_limits(pod: Object, use: Use, empty_dirs: Mapping[str, int], container_layers: Mapping[str, int]) -> str:
    """What a pod is told that uses more of the disk than it may itself; empty if it doesn't.

    `empty_dirs` are bytes by volume (on disk), `container_layers` bytes by container.
    """
    for volume in pod["spec"].get("volumes") or ():
        source = volume.get("emptyDir")
        limit = (source or {}).get("sizeLimit")
        if limit and empty_dirs.get(volume["name"], 0) > quantity.parse(limit).value() > 0:
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    total = podresources.of_pod(pod, "limits").get("ephemeral-storage")
    if total and use.disk > total.value():
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    for container in [*spec.containers(pod), *(c for c in spec.init_containers(pod) if spec.is_sidecar(c))]:
        own = podresources.of_container(container, "limits").get("ephemeral-storage")
        if own and container_layers.get(container["name"], 0) > own.value():
            return f'Container {container["name"]} exceeded its local ephemeral storage limit "{own}". '
    return ""
