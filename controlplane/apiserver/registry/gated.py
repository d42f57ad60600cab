"""Fields of features that Kubernetes 1.36 has but leaves off: what clients send in them is dropped without a word.

What an object has in such a field already, it keeps.

Source: `DropDisabledFields` and `dropDisabledFields` in pkg/api and pkg/registry;
https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controlplane.apiserver.registry.objects import items, sub
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_SOURCES = ("clusterTrustBundle", "podCertificate")

Drop = Callable[[Object, Object], None]
"""(new in place, old or {})."""


def _drop(new: Object, old: Object, *keys: str) -> None:
    """Drop those of the keys that the old object does not have."""
    for key in keys:
        if key in new and old.get(key) is None:
            del new[key]


def _stop_signals(spec: Object) -> Iterator[Object]:
    """Containers with a signal of their own to stop them. (ContainerStopSignals)"""
    for kind in _CONTAINERS:
        for container in spec.get(kind) or ():
            if "stopSignal" in (container.get("lifecycle") or ()):
                yield container


def _projections(spec: Object) -> Iterator[Object]:
    for volume in spec.get("volumes") or ():
        if volume.get("projected"):
            yield from volume["projected"].get("sources") or ()


def _pod_spec(new: Object, old: Object) -> None:
    _drop(new, old, "schedulingGroup")  # GenericWorkload
    for container in list(_stop_signals(new)):
        if next(_stop_signals(old), None) is None:
            del container["lifecycle"]["stopSignal"]
            if not container["lifecycle"]:
                del container["lifecycle"]
    for source in _projections(new):  # ClusterTrustBundleProjection, PodCertificateRequest
        for key in _SOURCES:
            if key in source and not any(key in other for other in _projections(old)):
                del source[key]


def _pod_of(*path: str) -> Drop:
    return lambda new, old: _pod_spec(sub(new, *path), sub(old, *path))


def _template(new: Object, old: Object) -> None:
    _pod_of("spec", "template", "spec")(new, old)


def _stateful_set(new: Object, old: Object) -> None:
    _template(new, old)
    path = ("spec", "updateStrategy", "rollingUpdate")
    _drop(sub(new, *path), sub(old, *path), "maxUnavailable")  # MaxUnavailableStatefulSet
    before = items(old, "spec", "volumeClaimTemplates")
    for i, claim in enumerate(items(new, "spec", "volumeClaimTemplates")):
        _claim(claim, before[i] if i < len(before) else {})


def _claim(new: Object, old: Object) -> None:
    """Sources in other namespaces. (CrossNamespaceVolumeDataSource)"""
    path = ("spec", "dataSourceRef")
    if sub(new, *path).get("namespace") and not sub(old, *path).get("namespace"):
        del new["spec"]["dataSourceRef"]


def _lease(new: Object, old: Object) -> None:
    _drop(sub(new, "spec"), sub(old, "spec"), "strategy", "preferredHolder")  # CoordinatedLeaderElection


def _driver(new: Object, old: Object) -> None:
    _drop(sub(new, "spec"), sub(old, "spec"), "preventPodSchedulingIfMissing")  # VolumeLimitScaling


def _slice(new: Object, old: Object) -> None:
    """(DRAListTypeAttributes, DRANodeAllocatableResources)"""
    before = {device.get("name"): device for device in items(old, "spec", "devices")}
    for device in items(new, "spec", "devices"):
        had = before.get(device.get("name")) or {}
        _drop(device, had, "nodeAllocatableResourceMappings")
        for name, attribute in sub(device, "attributes").items():
            _drop(attribute, sub(had, "attributes", name), "bools", "ints", "strings", "versions")


_DROPS: dict[ResourceType, Drop] = {
    catalogue.PODS: _pod_of("spec"),
    catalogue.PODTEMPLATES: _pod_of("template", "spec"),
    catalogue.CRONJOBS: _pod_of("spec", "jobTemplate", "spec", "template", "spec"),
    catalogue.STATEFULSETS: _stateful_set,
    catalogue.PERSISTENTVOLUMECLAIMS: _claim,
    catalogue.LEASES: _lease,
    catalogue.CSIDRIVERS: _driver,
    catalogue.RESOURCESLICES: _slice,
    **dict.fromkeys(
        (
            *(catalogue.DEPLOYMENTS, catalogue.REPLICASETS, catalogue.DAEMONSETS),
            *(catalogue.JOBS, catalogue.REPLICATIONCONTROLLERS),
        ),
        _template,
    ),
}


def drop(resource: ResourceType, new: Object, old: Object | None) -> None:
    """Drop from `new`, in place, what is of features that are off; `old` is what is stored of it."""
    found = _DROPS.get(resource)
    if found is not None:
        found(new, old or {})
