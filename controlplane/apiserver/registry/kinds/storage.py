"""Volumes, claims, classes, and what storage drivers publish."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.registry.defaults.volumes import (
    default_claim,
    default_csi_driver,
    default_persistent_volume,
    default_storage_class,
)
from controlplane.apiserver.registry.objects import child, set_or_drop, sub
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    keep_generation,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import claims, csi
from controlplane.apiserver.registry.validation import storage as rules
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

_PLAIN = Strategy(prepare_create=prepare_create(), prepare_update=prepare_update())
_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def _create_volume(volume: Object, context: Context) -> None:
    volume["status"] = {"phase": "Pending", "lastPhaseTransitionTime": context.now}


def _volume_status(new: Object, old: Object, context: Context) -> None:
    set_or_drop(new, "spec", old)
    keep_generation(new, old)
    status, before = new.setdefault("status", {}), old.get("status") or {}
    moved = status.get("phase") != before.get("phase")
    if moved and status.get("lastPhaseTransitionTime") in (None, before.get("lastPhaseTransitionTime")):
        status["lastPhaseTransitionTime"] = context.now


def _create_claim(claim: Object, context: Context) -> None:
    prepare_create(status={"phase": "Pending"})(claim, context)
    _settle_sources(claim, {})


def _update_claim(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True)(new, old, context)
    _settle_sources(new, old)


def _settle_sources(claim: Object, old: Object) -> None:
    """`dataSource` names claims and snapshots only; it and `dataSourceRef` say the same where only one is given."""
    spec = child(claim, "spec")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source and not reference and not sub(old, "spec").get("dataSource"):
        kind = (source.get("apiGroup") or "", source.get("kind"))
        if kind not in _SOURCES:
            del spec["dataSource"]
            source = None
    if source and not reference:
        spec["dataSourceRef"] = dict(source)
    elif reference and not source and not reference.get("namespace"):
        spec["dataSource"] = {key: value for key, value in reference.items() if key != "namespace"}


_FIXED = replace(_PLAIN, allow_unconditional_update=False)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.PERSISTENTVOLUMES: Strategy(
        default=default_persistent_volume,
        warnings=warnings.persistent_volume,
        validate=rules.volume,
        validate_update=rules.volume_update,
        validate_status_update=rules.volume_status,
        prepare_create=_create_volume,
        prepare_update=prepare_update(status=True),
        prepare_status_update=_volume_status,
        has_status=True,
    ),
    catalogue.PERSISTENTVOLUMECLAIMS: Strategy(
        default=default_claim,
        warnings=warnings.claim,
        validate=claims.claim,
        validate_update=claims.claim_update,
        validate_status_update=claims.claim_status,
        prepare_create=_create_claim,
        prepare_update=_update_claim,
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.STORAGECLASSES: replace(
        _PLAIN,
        default=default_storage_class,
        warnings=warnings.storage_class,
        validate=rules.storage_class,
        validate_update=rules.storage_class_update,
    ),
    catalogue.VOLUMEATTRIBUTESCLASSES: replace(
        _PLAIN, validate=rules.attributes_class, validate_update=rules.attributes_class_update
    ),
    catalogue.CSINODES: replace(_FIXED, validate=csi.csi_node, validate_update=csi.csi_node_update),
    catalogue.CSISTORAGECAPACITIES: replace(_FIXED, validate=csi.csi_capacity, validate_update=csi.csi_capacity_update),
    catalogue.CSIDRIVERS: replace(
        _FIXED,
        default=default_csi_driver,
        warnings=warnings.csi_driver,
        validate=csi.csi_driver,
        validate_update=csi.csi_driver_update,
        prepare_update=prepare_update(counts=("spec",)),
    ),
    catalogue.VOLUMEATTACHMENTS: Strategy(
        validate=rules.attachment,
        validate_update=rules.attachment_update,
        validate_status_update=rules.attachment_update,
        prepare_create=prepare_create(status={"attached": False}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
        allow_unconditional_update=False,
    ),
}
