"""Defaults of volumes, claims and the sources they come from.

Source: pkg/apis/core/v1/defaults.go, pkg/apis/storage/v1/defaults.go.
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.apiserver.registry.defaults.containers import default_field_reference, pull_policy, round_amounts
from controlplane.apiserver.registry.objects import items, put_absent, put_empty, sub, text
from machinery.api.meta import Object

FILE_MODE = 0o644


def default_volume(volume: Object) -> None:
    """A volume of a pod."""
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    default_source(volume)
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(found := volume.get(source), dict):
            put_absent(found, defaultMode=FILE_MODE)
    for file in items(volume, "downwardAPI", "items"):
        default_field_reference(file)
    for projection in items(volume, "projected", "sources"):
        for file in items(projection, "downwardAPI", "items"):
            default_field_reference(file)
        if isinstance(token := projection.get("serviceAccountToken"), dict):
            put_absent(token, expirationSeconds=3600)
        if isinstance(certificate := projection.get("podCertificate"), dict):
            put_absent(certificate, maxExpirationSeconds=86400)
    if isinstance(image := volume.get("image"), dict):
        put_empty(image, pullPolicy=pull_policy(text(image, "reference")))
    if claim := sub(volume, "ephemeral", "volumeClaimTemplate"):
        default_claim_spec(sub(claim, "spec"))


def _host_path(source: Object) -> None:
    put_absent(source, type="")


def _iscsi(source: Object) -> None:
    put_empty(source, iscsiInterface="default")


def _rbd(source: Object) -> None:
    put_empty(source, pool="rbd", user="admin", keyring="/etc/ceph/keyring")


def _azure_disk(source: Object) -> None:
    put_absent(source, cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False)


def _scale_io(source: Object) -> None:
    put_empty(source, storageMode="ThinProvisioned", fsType="xfs")


_SOURCES: dict[str, Callable[[Object], None]] = {
    "hostPath": _host_path,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
}


def default_source(holder: Object) -> None:
    """The sources that volumes of pods and persistent volumes share."""
    for name, fill in _SOURCES.items():
        if isinstance(source := holder.get(name), dict):
            fill(source)


def default_claim_spec(spec: Object) -> None:
    """The spec of a PersistentVolumeClaim, of its own or in a template."""
    put_absent(spec, volumeMode="Filesystem")
    for amounts in ("limits", "requests"):
        round_amounts(sub(spec, "resources", amounts))


def default_claim(claim: Object) -> None:
    """A PersistentVolumeClaim."""
    status = claim.get("status")
    if isinstance(status, dict):
        put_empty(status, phase="Pending")
    default_claim_spec(claim.setdefault("spec", {}))


def default_persistent_volume(volume: Object) -> None:
    """A PersistentVolume."""
    put_empty(volume["status"], phase="Pending")
    spec = volume["spec"]
    put_empty(spec, persistentVolumeReclaimPolicy="Retain")
    put_absent(spec, volumeMode="Filesystem")
    default_source(spec)
    round_amounts(sub(spec, "capacity"))


def default_storage_class(storage_class: Object) -> None:
    """A StorageClass."""
    put_absent(storage_class, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def default_csi_driver(driver: Object) -> None:
    """A CSIDriver."""
    spec = driver["spec"]
    put_absent(
        spec,
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
