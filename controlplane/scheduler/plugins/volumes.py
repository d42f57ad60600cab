"""VolumeRestrictions, VolumeBinding, VolumeZone and NodeVolumeLimits: a pod goes where its volumes can be.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/{volumerestrictions,volumebinding,volumezone,
nodevolumelimits}; KEP-2485 (ReadWriteOncePod).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import Reject, Scope
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from controlplane.scheduler.storage import SELECTED_NODE, Storage, is_bound, requested_storage, volume_rows
from machinery.api.meta import Object, annotations_of, labels_of

_GA_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
_TOPOLOGY_LABELS = (*_GA_LABELS, *_GA_LABELS.values())
_GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
_ONCE = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


class VolumeRestrictions:
    """Filter: a ReadWriteOncePod claim is used by one pod at a time, a disk of some kinds by one pod of a node."""

    name = "VolumeRestrictions"
    scope = Scope.CLUSTER

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """All claims must be there."""
        for name, ephemeral in pod.shape.claims:
            self._storage.claim(pod, name, ephemeral=ephemeral)
        return None

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows with the same disk; all rows while another pod uses the claim. Preemption would help in both cases."""
        if pod.shape.disks:
            taken = [row for disk, read_only in pod.shape.disks for row in rows.table.rows_with_disk(disk, read_only)]
            conflict = rows.marked(taken)
            if taken:
                yield Reject(conflict, "node(s) had no available disk")
        else:
            conflict = None
        for name, _ in pod.shape.claims:
            claim = self._storage.claims.get(f"{pod.namespace}/{name}")
            once = claim is not None and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
            if once and rows.table.rows_using(f"{pod.namespace}/{name}"):
                yield Reject(rows.exists if conflict is None else rows.exists & ~conflict, _ONCE)
                return


class VolumeBinding:
    """Filter: bound volumes must be reachable; delayed claims must find a volume, or a provisioner, for the node."""

    name = "VolumeBinding"
    scope = Scope.CLUSTER

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """Claims must be bound, or of a class whose volumes wait for their first consumer."""
        if pod.shape.claims:
            self._storage.of(pod)
        return None

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Upstream's four reasons."""
        if not pod.shape.claims:
            return
        claims = self._storage.of(pod)
        unreachable = rows.none()
        for claim in claims.bound:
            volume = self._storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                yield Reject(rows.exists, _GONE, final=True)
                return
            unreachable |= ~volume_rows(volume, rows)
        if claims.bound:
            yield Reject(unreachable, "node(s) didn't match PersistentVolume's node affinity", final=True)
        if claims.delayed:
            impossible, cramped = self._unbindable(claims.delayed, rows)
            yield Reject(impossible, "node(s) didn't find available persistent volumes to bind", final=True)
            yield Reject(cramped & ~impossible, "node(s) did not have enough free storage", final=True)

    def _unbindable(self, claims: Iterable[Object], rows: Rows) -> tuple[Mask, Mask]:
        """(rows where a claim finds neither volume nor provisioner, rows where the storage for one is missing).

        A volume serves one claim: the claims choose in turn, the smallest first, each the smallest volume left.
        """
        impossible, cramped = rows.none(), rows.none()
        taken: dict[str, Mask] = {}
        for claim in sorted(claims, key=requested_storage):
            selected = annotations_of(claim).get(SELECTED_NODE)
            if selected:  # it is being provisioned there
                impossible |= rows.not_named([selected])
                continue
            need = ~impossible
            for volume in self._storage.candidates(claim):
                used = taken.setdefault(volume["metadata"]["name"], rows.none())
                hit = need & volume_rows(volume, rows) & ~used
                used |= hit
                need &= ~hit
            possible, short = self._storage.provisioning(claim, rows)
            impossible |= need & ~possible
            cramped |= need & short
        return impossible, cramped


class VolumeZone:
    """Filter: volumes that carry zone or region labels are used in that zone or region."""

    name = "VolumeZone"
    scope = Scope.CLUSTER

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows of other zones; rows without zone labels take any volume."""
        elsewhere = rows.none()
        for name, _ in pod.shape.claims:
            claim = self._storage.claims.get(f"{pod.namespace}/{name}")
            volume = self._storage.volumes.get(claim["spec"].get("volumeName") or "") if claim else None
            for key in _TOPOLOGY_LABELS:
                value = labels_of(volume).get(key) if volume else None
                if value:
                    elsewhere |= ~_in_zone(key, value.split("__"), rows)
        if elsewhere.any():
            labelled = rows.none()
            for key in _TOPOLOGY_LABELS:
                labelled |= rows.label(key) > 0
            yield Reject(elsewhere & labelled, "node(s) had no available volume zone", final=True)


def _in_zone(key: str, values: list[str], rows: Rows) -> Mask:
    found = rows.matches(key, "In", values)
    if key in _GA_LABELS:  # a node without the old label is asked for the new one
        found |= (rows.label(key) == 0) & rows.matches(_GA_LABELS[key], "In", values)
    return found


class NodeVolumeLimits:
    """Filter: a CSI driver attaches no more volumes to a node than its CSINode says."""

    name = "NodeVolumeLimits"
    scope = Scope.CLUSTER

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows where the pod's volumes would be too many."""
        wanted: dict[str, set[str]] = {}
        for name, _ in pod.shape.claims:
            found = self._attachable(f"{pod.namespace}/{name}")
            if found is not None:
                wanted.setdefault(found[0], set()).add(found[1])
        full = np.zeros(rows.table.capacity, np.bool_)
        for driver, handles in wanted.items():
            limits = self._limits(driver, rows.table)
            if limits:
                self._mark_full(driver, handles, limits, full, rows.table)
        if full.any():
            yield Reject(full[rows.index], "node(s) exceed max volume count")

    def _mark_full(self, driver: str, handles: set[str], limits: dict[int, int], full: Mask, nodes: NodeTable) -> None:
        attached = self._attached(driver, nodes)
        for row, limit in limits.items():
            there = attached.get(row, set())
            new = handles - there
            if new and len(there) + len(new) > limit:
                full[row] = True

    def _limits(self, driver: str, nodes: NodeTable) -> dict[int, int]:
        """Row → how many volumes of the driver it takes, where there is a limit."""
        found: dict[int, int] = {}
        for node in self._storage.nodes.list():
            row = nodes.row(node["metadata"]["name"])
            for each in node["spec"].get("drivers") or ():
                count = (each.get("allocatable") or {}).get("count")
                if each["name"] == driver and count is not None and row is not None:
                    found[row] = count
        return found

    def _attached(self, driver: str, nodes: NodeTable) -> dict[int, set[str]]:
        """Row → handles of the driver's volumes that are in use there, or attached still."""
        found: dict[int, set[str]] = {}
        for claim, where in nodes.claims_in_use():
            volume = self._attachable(claim)
            if volume is not None and volume[0] == driver:
                for row in where:
                    found.setdefault(row, set()).add(volume[1])
        for attachment in self._storage.attachments.list():
            spec = attachment["spec"]
            name = (spec.get("source") or {}).get("persistentVolumeName")
            there = nodes.row(spec["nodeName"])
            if spec["attacher"] == driver and name and there is not None:
                found.setdefault(there, set()).add(self._handle(name))
        return found

    def _handle(self, volume_name: str) -> str:
        volume = self._storage.volumes.get(volume_name)
        csi = volume["spec"].get("csi") if volume else None
        return str(csi["volumeHandle"]) if csi else volume_name

    def _attachable(self, key: str) -> tuple[str, str] | None:
        """(CSI driver, volume handle) of a claim; one without a volume yet counts as a volume of its own."""
        claim = self._storage.claims.get(key)
        if claim is None:
            return None
        volume = self._storage.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume["spec"].get("csi")
            return (csi["driver"], csi["volumeHandle"]) if csi else None
        if is_bound(claim):
            return None
        chosen = self._storage.classes.get(claim["spec"].get("storageClassName") or "")
        return (chosen["provisioner"], f"claim {key}") if chosen and chosen.get("provisioner") else None
