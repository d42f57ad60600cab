"""VolumeBinding, VolumeRestrictions and VolumeZone: a pod goes where its persistent volumes can be.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/{volumebinding,volumerestrictions,volumezone}; KEP-490
(WaitForFirstConsumer), KEP-2485 (ReadWriteOncePod).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import PodUnschedulable, Reject
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.pod import Pod
from machinery.api import labels as label_selectors
from machinery.api import quantity
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from machinery.api.meta import Object, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from machinery.cache.informer import Informers

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"
_ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_REGION_LABELS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(frozen=True)
class Claims:
    """A pod's PersistentVolumeClaims: those bound already, and those that wait for the pod to have a node."""

    bound: Sequence[Object] = ()
    delayed: Sequence[Object] = ()


class Volumes:
    """What the informers know of claims, volumes and classes."""

    def __init__(self, informers: Informers) -> None:
        self.claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self.volumes = informers.of(PERSISTENTVOLUMES)
        self.classes = informers.of(STORAGECLASSES)

    def of(self, pod: Pod) -> Claims:
        """The pod's claims. Raises PodUnschedulable when no node could help: one is missing, or must be bound first."""
        bound: list[Object] = []
        delayed: list[Object] = []
        for name, ephemeral in claim_names(pod.object):
            claim = self.claims.get(f"{pod.namespace}/{name}")
            self._check(pod, name, claim, ephemeral=ephemeral)
            assert claim is not None
            if is_bound(claim):
                bound.append(claim)
            elif not claim["spec"].get("volumeName") and self._waits(claim):
                delayed.append(claim)
            else:
                raise PodUnschedulable("pod has unbound immediate PersistentVolumeClaims")
        return Claims(bound, delayed)

    def _check(self, pod: Pod, name: str, claim: Object | None, *, ephemeral: bool) -> None:
        if claim is None:
            if ephemeral:
                raise PodUnschedulable(
                    f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                )
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" not found')
        if is_deleting(claim):
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" is being deleted')
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName")
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"')
        if ephemeral and not any(r.get("uid") == pod.uid for r in claim["metadata"].get("ownerReferences") or ()):
            raise PodUnschedulable(f"PVC {namespace_of(claim)}/{name} was not created for pod {pod.key}")

    def _waits(self, claim: Object) -> bool:
        chosen = self.classes.get(claim["spec"].get("storageClassName") or "")
        return chosen is not None and chosen.get("volumeBindingMode") == "WaitForFirstConsumer"

    def candidates(self, claim: Object) -> list[Object]:
        """Volumes that could be bound to the claim, the smallest first."""
        found = [volume for volume in self.volumes.list() if _suits(volume, claim)]
        return sorted(found, key=lambda volume: quantity.parse(volume["spec"]["capacity"]["storage"]))

    def topology(self, claim: Object, nodes: NodeTable) -> Mask:
        """Rows on which a volume could be provisioned for the claim."""
        chosen = self.classes.get(claim["spec"].get("storageClassName") or "")
        if chosen is None or chosen.get("provisioner") in (None, _NO_PROVISIONER):
            return np.zeros(nodes.capacity, np.bool_)
        allowed = chosen.get("allowedTopologies")
        if not allowed:
            return nodes.exists.copy()
        terms = [
            {"matchExpressions": [{**e, "operator": "In"} for e in term.get("matchLabelExpressions") or ()]}
            for term in allowed
        ]
        return matches_terms(terms, nodes)


def claim_names(pod: Object) -> Iterable[tuple[str, bool]]:
    """(claim name, whether it is of a generic ephemeral volume) for each claim the pod uses."""
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield claim["claimName"], False
        elif volume.get("ephemeral"):
            yield f"{name_of(pod)}-{volume['name']}", True


def is_bound(claim: Object) -> bool:
    """Whether the claim has its volume for good."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def volume_rows(volume: Object, nodes: NodeTable) -> Mask:
    """Rows from which the volume can be reached."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    return nodes.exists.copy() if required is None else matches_terms(required, nodes)


def _suits(volume: Object, claim: Object) -> bool:
    spec, wanted = volume["spec"], claim["spec"]
    held = spec.get("claimRef")
    if held is not None and not (
        held.get("name") == name_of(claim)
        and held.get("namespace") == namespace_of(claim)
        and held.get("uid") in (None, "", uid_of(claim))
    ):
        return False
    if is_deleting(volume) or (held is None and (volume.get("status") or {}).get("phase") != "Available"):
        return False
    asked = ((wanted.get("resources") or {}).get("requests") or {}).get("storage", "0")
    selector = wanted.get("selector")
    return (
        (spec.get("storageClassName") or "") == (wanted.get("storageClassName") or "")
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and quantity.parse(spec.get("capacity", {}).get("storage", "0")) >= quantity.parse(asked)
        and (selector is None or label_selectors.from_selector(selector).matches(labels_of(volume)))
    )


class VolumeBinding:
    """Filter: bound volumes must be reachable; delayed claims must find a volume, or a provisioner, for the node."""

    name = "VolumeBinding"

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Upstream's three reasons."""
        claims = self._volumes.of(pod)
        for claim in claims.bound:
            volume = self._volumes.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                yield Reject(nodes.exists, _GONE, final=True)
            else:
                unreachable = ~volume_rows(volume, nodes)
                yield Reject(unreachable, "node(s) didn't match PersistentVolume's node affinity", final=True)
        for claim in claims.delayed:
            possible = self._volumes.topology(claim, nodes)
            selected = annotations_of(claim).get(SELECTED_NODE)
            if selected:
                possible &= nodes.labels.named([selected])
            else:
                for volume in self._volumes.candidates(claim):
                    possible |= volume_rows(volume, nodes)
            yield Reject(~possible, "node(s) didn't find available persistent volumes to bind", final=True)


class VolumeRestrictions:
    """Filter: a ReadWriteOncePod claim is used by one pod at a time."""

    name = "VolumeRestrictions"

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """All rows while another pod uses the claim; preemption of that pod would help."""
        for name, _ in claim_names(pod.object):
            claim = self._volumes.claims.get(f"{pod.namespace}/{name}")
            if claim is None or "ReadWriteOncePod" not in (claim["spec"].get("accessModes") or ()):
                continue
            users = nodes.rows_using(f"{pod.namespace}/{name}")
            if users:
                rows = np.zeros(nodes.capacity, np.bool_)
                rows[list(users)] = True
                reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
                yield Reject(rows, reason)
                yield Reject(~rows, reason, final=True)


class VolumeZone:
    """Filter: volumes that carry zone or region labels are used in that zone or region."""

    name = "VolumeZone"

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Rows of other zones; rows without zone labels take any volume."""
        for name, _ in claim_names(pod.object):
            claim = self._volumes.claims.get(f"{pod.namespace}/{name}")
            volume = self._volumes.volumes.get(claim["spec"].get("volumeName") or "") if claim else None
            for key, values in _topology_labels(volume):
                elsewhere = nodes.labels.matches(key, "Exists", ()) & ~nodes.labels.matches(key, "In", values)
                yield Reject(elsewhere, "node(s) had no available volume zone", final=True)


def _topology_labels(volume: Object | None) -> Iterable[tuple[str, list[str]]]:
    for key in (*_ZONE_LABELS, *_REGION_LABELS):
        value = labels_of(volume).get(key) if volume else None
        if value:
            yield key, value.split("__")
