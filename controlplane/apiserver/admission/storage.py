"""Plugins for volumes and claims: the default class, protection while in use, growing.

Source: k8s.io/kubernetes/plugin/pkg/admission/storage.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.reader import Reader
from machinery.api import quantity
from machinery.api.catalogue import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTRIBUTESCLASSES,
)
from machinery.api.meta import Object, annotations_of, name_of
from machinery.api.quantity import Quantity

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def newest(candidates: list[Object]) -> Object:
    """The youngest of several defaults; of the same age, the first by name."""
    by_name = sorted(candidates, key=name_of)
    return max(by_name, key=lambda obj: str(obj["metadata"].get("creationTimestamp") or ""))


class DefaultStorageClass(BasePlugin):
    """A claim that says nothing about its class gets the default one."""

    name = "DefaultStorageClass"
    resources = (PERSISTENTVOLUMECLAIMS,)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, operation: Operation) -> None:
        """Set storageClassName."""
        claim = subject(operation)
        spec = spec_of(claim)
        if _CLASS_ANNOTATION in annotations_of(claim) or spec.get("storageClassName") is not None:
            return
        defaults = [
            storage_class
            for storage_class in self._reader.list(STORAGECLASSES)
            if any(annotations_of(storage_class).get(key) == "true" for key in _DEFAULT_CLASS)
        ]
        if defaults:
            spec["storageClassName"] = name_of(newest(defaults))


class StorageObjectInUseProtection(BasePlugin):
    """Volumes and claims don't go while something uses them: a finalizer that controllers take away."""

    name = "StorageObjectInUseProtection"
    resources = (PERSISTENTVOLUMES, PERSISTENTVOLUMECLAIMS, VOLUMEATTRIBUTESCLASSES)

    _finalizers = {  # noqa: RUF012 (a constant table)
        PERSISTENTVOLUMES: "kubernetes.io/pv-protection",
        PERSISTENTVOLUMECLAIMS: "kubernetes.io/pvc-protection",
        VOLUMEATTRIBUTESCLASSES: "kubernetes.io/vac-protection",
    }

    async def admit(self, operation: Operation) -> None:
        """Add the finalizer."""
        metadata = subject(operation)["metadata"]
        finalizer = self._finalizers[operation.resource]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class PersistentVolumeClaimResize(BasePlugin):
    """Claims grow only where their class can do that."""

    name = "PersistentVolumeClaimResize"
    verbs = (UPDATE,)
    resources = (PERSISTENTVOLUMECLAIMS,)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        claim, old = subject(operation), operation.old or {}
        if _size(claim) <= _size(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise refuse(operation, "Only bound persistent volume claims can be expanded")
        before, after = _class_name(old), _class_name(claim)
        storage_class = self._reader.get(STORAGECLASSES, "", after) if before and after else None
        if storage_class is None or not storage_class.get("allowVolumeExpansion"):
            raise refuse(
                operation,
                "only dynamically provisioned pvc can be resized and "
                "the storageclass that provisions the pvc must support resize",
            )


def _size(claim: Object) -> Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return quantity.parse(requests.get("storage") or "0")


def _class_name(claim: Object) -> str:
    annotated = annotations_of(claim).get(_CLASS_ANNOTATION)
    return annotated if annotated is not None else str((claim.get("spec") or {}).get("storageClassName") or "")
