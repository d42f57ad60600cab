"""What the informers know of claims, volumes, classes, drivers and free storage.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding/binder.go; component-helpers/storage/volume
(FindMatchingVolume); KEP-490 (WaitForFirstConsumer), KEP-1472 (storage capacity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import PodUnschedulable
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from machinery.api import labels as label_selectors
from machinery.api import quantity
from machinery.api.catalogue import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
)
from machinery.api.meta import Object, annotations_of, is_deleting, key_of, labels_of, name_of, namespace_of, uid_of
from machinery.api.quantity import Quantity
from machinery.cache.informer import Informers

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"


@dataclass(frozen=True)
class Claims:
    """A pod's PersistentVolumeClaims: those bound already, and those that wait for the pod to have a node."""

    bound: Sequence[Object] = ()
    delayed: Sequence[Object] = ()


class Storage:
    """The objects, and the volumes promised to claims by decisions that the informers do not show yet."""

    def __init__(self, informers: Informers) -> None:
        self.claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self.volumes = informers.of(PERSISTENTVOLUMES)
        self.classes = informers.of(STORAGECLASSES)
        self.nodes = informers.of(CSINODES)
        self.drivers = informers.of(CSIDRIVERS)
        self.capacities = informers.of(CSISTORAGECAPACITIES)
        self.attachments = informers.of(VOLUMEATTACHMENTS)
        self.promised: dict[str, str] = {}  # volume → claim

    # -- the claims of a pod -----------------------------------------------------------------------------------------

    def of(self, pod: Pod) -> Claims:
        """The pod's claims. Raises PodUnschedulable when no node could help: one is missing, or must be bound first."""
        bound: list[Object] = []
        delayed: list[Object] = []
        unbound = False
        for name, ephemeral in pod.shape.claims:
            claim = self.claim(pod, name, ephemeral=ephemeral)
            if is_bound(claim):
                bound.append(claim)
            elif not claim["spec"].get("volumeName") and self._waits(claim):
                delayed.append(claim)
            else:
                unbound = True
        if unbound:
            raise PodUnschedulable("pod has unbound immediate PersistentVolumeClaims")
        return Claims(bound, delayed)

    def claim(self, pod: Pod, name: str, *, ephemeral: bool) -> Object:
        """A claim that the pod may use. Raises PodUnschedulable."""
        claim = self.claims.get(f"{pod.namespace}/{name}")
        if claim is None:
            if ephemeral:
                raise PodUnschedulable(
                    f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                )
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" not found')
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName", "")
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"')
        if is_deleting(claim):
            raise PodUnschedulable(f'persistentvolumeclaim "{name}" is being deleted')
        if ephemeral and not any(r.get("uid") == pod.uid for r in claim["metadata"].get("ownerReferences") or ()):
            raise PodUnschedulable(f"PVC {key_of(claim)} was not created for pod {pod.key} (pod is not owner)")
        return claim

    def _waits(self, claim: Object) -> bool:
        chosen = self._class_of(claim)
        return chosen is not None and chosen.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _class_of(self, claim: Object) -> Object | None:
        return self.classes.get(claim["spec"].get("storageClassName") or "")

    # -- volumes for claims ------------------------------------------------------------------------------------------

    def candidates(self, claim: Object) -> list[Object]:
        """Volumes that could be bound to the claim: one that is reserved for it alone, else the smallest first."""
        key = key_of(claim)
        found = [
            volume
            for volume in self.volumes.list()
            if _suits(volume, claim) and self.promised.get(name_of(volume), key) == key
        ]
        reserved = [volume for volume in found if volume["spec"].get("claimRef")]
        return reserved[:1] or sorted(found, key=lambda volume: quantity.parse(volume["spec"]["capacity"]["storage"]))

    def provisioning(self, claim: Object, rows: Rows) -> tuple[Mask, Mask]:
        """(rows on which a volume could be provisioned for the claim, those of them without the storage for it)."""
        chosen = self._class_of(claim)
        if chosen is None or chosen.get("provisioner") in (None, "", _NO_PROVISIONER):
            return rows.none(), rows.none()
        possible: Mask = np.ones(len(rows), np.bool_)
        if allowed := chosen.get("allowedTopologies"):
            terms = [
                {"matchExpressions": [{**e, "operator": "In"} for e in term.get("matchLabelExpressions") or ()]}
                for term in allowed
            ]
            possible = matches_terms(terms, rows)
        driver = self.drivers.get(chosen["provisioner"])
        if driver is None or not driver["spec"].get("storageCapacity"):
            return possible, rows.none()
        roomy = rows.none()
        wanted = requested_storage(claim)
        for capacity in self.capacities.list():
            if capacity["storageClassName"] == name_of(chosen) and _has_room(capacity, wanted):
                roomy |= _within(capacity.get("nodeTopology"), rows)
        return possible, possible & ~roomy


def requested_storage(claim: Object) -> Quantity:
    """How much a claim asks for."""
    return quantity.parse(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def is_bound(claim: Object) -> bool:
    """Whether the claim has its volume for good."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def volume_rows(volume: Object, rows: Rows) -> Mask:
    """Rows from which the volume can be reached."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    return np.ones(len(rows), np.bool_) if required is None else matches_terms(required, rows)


def _has_room(capacity: Object, wanted: Quantity) -> bool:
    limit = capacity.get("maximumVolumeSize") or capacity.get("capacity")
    return limit is not None and quantity.parse(limit) >= wanted


def _within(topology: Object | None, rows: Rows) -> Mask:
    if topology is None:
        return rows.none()
    found: Mask = np.ones(len(rows), np.bool_)
    for key, value in (topology.get("matchLabels") or {}).items():
        found &= rows.matches(key, "In", [value])
    for expression in topology.get("matchExpressions") or ():
        found &= rows.matches(expression["key"], expression["operator"], expression.get("values") or ())
    return found


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
    selector = wanted.get("selector")
    return (
        (spec.get("storageClassName") or "") == (wanted.get("storageClassName") or "")
        and (spec.get("volumeAttributesClassName") or "") == (wanted.get("volumeAttributesClassName") or "")
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and quantity.parse(spec.get("capacity", {}).get("storage", "0")) >= requested_storage(claim)
        and (selector is None or label_selectors.from_selector(selector).matches(labels_of(volume)))
    )
