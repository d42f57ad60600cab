"""Which volume fits a claim. Pure functions.

Source: k8s.io/component-helpers/storage/volume (FindMatchingVolume, pv_helpers.go).
"""

from __future__ import annotations

from collections.abc import Iterable

from machinery.api import labels
from machinery.api.meta import Object, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from machinery.api.quantity import ZERO, Quantity, parse

BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """The storage class of a claim or a volume; "" for none."""
    annotated = annotations_of(obj).get(_CLASS_ANNOTATION)
    return str(annotated if annotated is not None else obj["spec"].get("storageClassName") or "")


def attributes_of(obj: Object) -> str:
    """The volume attributes class of a claim or a volume; "" for none."""
    return str(obj["spec"].get("volumeAttributesClassName") or "")


def requested(claim: Object) -> Quantity:
    """How much the claim asks for."""
    amount = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return parse(amount) if amount is not None else ZERO


def capacity(volume: Object) -> Quantity:
    """How much the volume holds."""
    amount = (volume["spec"].get("capacity") or {}).get("storage")
    return parse(amount) if amount is not None else ZERO


def mode(obj: Object) -> str:
    """Filesystem or Block."""
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def refers_to(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim (and, where it tells, this very one)."""
    reference = volume["spec"].get("claimRef") or {}
    if (reference.get("namespace"), reference.get("name")) != (namespace_of(claim), name_of(claim)):
        return False
    return not reference.get("uid") or reference["uid"] == uid_of(claim)


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume asked for by name does not fit the claim; "" if it does."""
    if requested(claim) > capacity(volume):
        return "requested PV is too small"
    if class_of(claim) != class_of(volume):
        return "storageClassName does not match"
    if attributes_of(claim) != attributes_of(volume):
        return "volumeAttributesClassName does not match"
    if mode(claim) != mode(volume):
        return "incompatible volumeMode"
    if not set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def _selects(claim: Object, volume: Object) -> bool:
    selector = claim["spec"].get("selector")
    return selector is None or labels.from_selector(selector).matches(labels_of(volume))


def best_volume(claim: Object, volumes: Iterable[Object], *, only_reserved: bool = False) -> Object | None:
    """The volume reserved for the claim, else the smallest free one that fits.

    `only_reserved`: the claim waits for its first pod; what nobody reserved for it is left to the scheduler.
    """
    wanted, modes = requested(claim), set(claim["spec"].get("accessModes") or ())
    best: Object | None = None
    for volume in volumes:
        if is_deleting(volume) or capacity(volume) < wanted or mode(volume) != mode(claim):
            continue
        if not modes <= set(volume["spec"].get("accessModes") or ()):
            continue
        if volume["spec"].get("claimRef"):
            if refers_to(volume, claim):
                return volume
            continue
        if only_reserved or class_of(volume) != class_of(claim):
            continue
        if (volume.get("status") or {}).get("phase") not in ("Available", "Pending", None):
            continue
        if attributes_of(volume) != attributes_of(claim) or not _selects(claim, volume):
            continue
        if best is None or capacity(volume) < capacity(best):
            best = volume
    return best
