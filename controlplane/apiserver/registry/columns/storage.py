"""Columns of volumes, claims, classes and storage drivers."""

from __future__ import annotations

from controlplane.apiserver.registry.columns.parts import AGE, NAME, Cell, column, named, text_if_set
from controlplane.apiserver.registry.objects import items, strings, sub, text, values
from controlplane.apiserver.registry.printing import UNSET
from controlplane.apiserver.registry.strategy import Column
from machinery.api.meta import Object

_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def _access_modes(obj: Object, *path: str) -> str:
    found = values(obj, *path)
    return ",".join(short for mode, short in _MODES.items() if mode in found)


def _phase(obj: Object) -> str:
    return "Terminating" if sub(obj, "metadata").get("deletionTimestamp") else text(obj, "status", "phase")


def _amount(obj: Object, *path: str) -> str:
    return str(sub(obj, *path).get("storage") or "0")


def _claim(volume: Object) -> str:
    claim = sub(volume, "spec").get("claimRef")
    return f"{text(claim, 'namespace')}/{text(claim, 'name')}" if isinstance(claim, dict) else ""


def _class(obj: Object) -> str:
    annotated = strings(obj, "metadata", "annotations").get(CLASS_ANNOTATION)
    return annotated if annotated is not None else text(obj, "spec", "storageClassName")


PERSISTENT_VOLUME = (
    NAME,
    column("Capacity", lambda obj: _amount(obj, "spec", "capacity"), "core.v1.PersistentVolumeSpec.capacity"),
    column(
        "Access Modes",
        lambda obj: _access_modes(obj, "spec", "accessModes"),
        "core.v1.PersistentVolumeSpec.accessModes",
    ),
    column(
        "Reclaim Policy",
        lambda obj: text(obj, "spec", "persistentVolumeReclaimPolicy"),
        "core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy",
    ),
    column("Status", _phase, "core.v1.PersistentVolumeStatus.phase"),
    column("Claim", _claim, "core.v1.PersistentVolumeSpec.claimRef"),
    column("StorageClass", _class, "StorageClass of the pv"),
    column(
        "VolumeAttributesClass",
        text_if_set(UNSET, "spec", "volumeAttributesClassName"),
        "VolumeAttributesClass of the pv",
    ),
    column("Reason", lambda obj: text(obj, "status", "reason"), "core.v1.PersistentVolumeStatus.reason"),
    AGE,
    column(
        "VolumeMode", text_if_set(UNSET, "spec", "volumeMode"), "core.v1.PersistentVolumeSpec.volumeMode", wide=True
    ),
)


def _if_bound(cell: Cell) -> Cell:
    return lambda claim: cell(claim) if text(claim, "spec", "volumeName") else ""


PERSISTENT_VOLUME_CLAIM = (
    NAME,
    column("Status", _phase, "core.v1.PersistentVolumeClaimStatus.phase"),
    column("Volume", lambda obj: text(obj, "spec", "volumeName"), "core.v1.PersistentVolumeClaimSpec.volumeName"),
    column(
        "Capacity",
        _if_bound(lambda obj: _amount(obj, "status", "capacity")),
        "core.v1.PersistentVolumeClaimStatus.capacity",
    ),
    column(
        "Access Modes",
        _if_bound(lambda obj: _access_modes(obj, "status", "accessModes")),
        "core.v1.PersistentVolumeClaimStatus.accessModes",
    ),
    column("StorageClass", _class, "StorageClass of the pvc"),
    column(
        "VolumeAttributesClass",
        text_if_set(UNSET, "spec", "volumeAttributesClassName"),
        "VolumeAttributesClass of the pvc",
    ),
    AGE,
    column(
        "VolumeMode",
        text_if_set(UNSET, "spec", "volumeMode"),
        "core.v1.PersistentVolumeClaimSpec.volumeMode",
        wide=True,
    ),
)


def _flag(default: bool, *path: str) -> Cell:
    def cell(obj: Object) -> bool:
        found = sub(obj, *path[:-1]).get(path[-1])
        return found if isinstance(found, bool) else default

    return cell


STORAGE_CLASS = (
    named("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"),
    column("Provisioner", lambda obj: text(obj, "provisioner"), "storage.v1.StorageClass.provisioner"),
    column("ReclaimPolicy", text_if_set("Delete", "reclaimPolicy"), "storage.v1.StorageClass.reclaimPolicy"),
    column(
        "VolumeBindingMode", text_if_set("Immediate", "volumeBindingMode"), "storage.v1.StorageClass.volumeBindingMode"
    ),
    column(
        "AllowVolumeExpansion", _flag(False, "allowVolumeExpansion"), "storage.v1.StorageClass.allowVolumeExpansion"
    ),
    AGE,
)

VOLUME_ATTRIBUTES_CLASS = (
    named("volumeattributesclass.alpha.kubernetes.io/is-default-class"),
    column("DriverName", lambda obj: text(obj, "driverName"), "storage.v1.VolumeAttributesClass.driverName"),
    AGE,
)

_ATTACHER = column("Attacher", lambda obj: text(obj, "spec", "attacher"), "storage.v1.VolumeAttachmentSpec.attacher")
VOLUME_ATTACHMENT = (
    NAME,
    Column(_ATTACHER.name, _ATTACHER.type, _ATTACHER.cell, "name", _ATTACHER.description),
    column(
        "PV",
        lambda obj: text(obj, "spec", "source", "persistentVolumeName"),
        "storage.v1.VolumeAttachmentSource.persistentVolumeName",
    ),
    column("Node", lambda obj: text(obj, "spec", "nodeName"), "storage.v1.VolumeAttachmentSpec.nodeName"),
    column(
        "Attached", _flag(False, "status", "attached"), "storage.v1.VolumeAttachmentStatus.attached", kind="boolean"
    ),
    AGE,
)

CSI_NODE = (
    NAME,
    column(
        "Drivers",
        lambda obj: len(values(obj, "spec", "drivers")),
        "Drivers indicates the number of CSI drivers registered on the node",
        kind="integer",
    ),
    AGE,
)


def _token_requests(driver: Object) -> str:
    requests = sub(driver, "spec").get("tokenRequests")
    return ",".join(text(r, "audience") for r in items(driver, "spec", "tokenRequests")) if requests else UNSET


_DRIVER = "storage.v1.CSIDriverSpec"
CSI_DRIVER = (
    NAME,
    column("AttachRequired", _flag(True, "spec", "attachRequired"), f"{_DRIVER}.attachRequired", kind="boolean"),
    column("PodInfoOnMount", _flag(False, "spec", "podInfoOnMount"), f"{_DRIVER}.podInfoOnMount", kind="boolean"),
    column("StorageCapacity", _flag(False, "spec", "storageCapacity"), f"{_DRIVER}.storageCapacity", kind="boolean"),
    column("TokenRequests", _token_requests, f"{_DRIVER}.tokenRequests"),
    column(
        "RequiresRepublish", _flag(False, "spec", "requiresRepublish"), f"{_DRIVER}.requiresRepublish", kind="boolean"
    ),
    column(
        "Modes",
        lambda obj: ",".join(v for v in values(obj, "spec", "volumeLifecycleModes") if isinstance(v, str)) or "<none>",
        f"{_DRIVER}.volumeLifecycleModes",
    ),
    AGE,
)

CSI_STORAGE_CAPACITY = (
    NAME,
    column(
        "StorageClassName", lambda obj: text(obj, "storageClassName"), "storage.v1.CSIStorageCapacity.storageClassName"
    ),
    column("Capacity", text_if_set(UNSET, "capacity"), "storage.v1.CSIStorageCapacity.capacity"),
)
