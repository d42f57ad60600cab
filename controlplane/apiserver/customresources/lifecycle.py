"""What the status of a CustomResourceDefinition should be, and what its deletion begins with. Pure.

Source: k8s.io/apiextensions-apiserver/pkg/controller/{status,establish,finalizer,nonstructuralschema}.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from controlplane.apiserver.registry.validation.definition_parts import approval
from machinery.api import meta
from machinery.api.meta import Object

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_NAMES = ("plural", "singular", "shortNames", "kind", "listKind", "categories")


def is_established(definition: Object) -> bool:
    """Whether the definition's resources are to be served."""
    return _holds(definition, "Established")


def is_terminating(definition: Object) -> bool:
    """Whether nothing new may be created of it."""
    return meta.is_deleting(definition)


def _holds(definition: Object, kind: str) -> bool:
    condition = meta.condition((definition.get("status") or {}).get("conditions"), kind)
    return condition is not None and condition.get("status") == "True"


def plan_status(definition: Object, others: Iterable[Object], now: str) -> Object:
    """The status of a definition next to the others of its group: its names, and whether it is established."""
    status: Object = copy.deepcopy(definition.get("status") or {})
    spec, names = definition["spec"], definition["spec"]["names"]
    accepted: dict[str, Any] = dict(status.get("acceptedNames") or {})
    taken_names, taken_kinds = _taken(definition, others)
    wrong: list[tuple[str, str]] = []

    for field in ("plural", "singular"):
        requested = names.get(field) or ""
        if requested in taken_names:
            wrong.append((f"{field.capitalize()}Conflict", f'"{requested}" is already in use'))
        else:
            accepted[field] = requested
    shorts = [name for name in names.get("shortNames") or () if name in taken_names]
    if shorts:
        told = list(dict.fromkeys(f'"{name}" is already in use' for name in shorts))
        wrong.append(("ShortNamesConflict", told[0] if len(told) == 1 else f"[{', '.join(told)}]"))
    else:
        _put(accepted, "shortNames", names.get("shortNames"))
    for field, reason in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
        requested = names.get(field) or ""
        if requested in taken_kinds:
            wrong.append((reason, f'"{requested}" is already in use'))
        else:
            accepted[field] = requested
    _put(accepted, "categories", names.get("categories"))
    accepted.setdefault("plural", "")
    accepted.setdefault("kind", "")
    status["acceptedNames"] = {field: accepted[field] for field in _NAMES if field in accepted}

    conditions: list[Object] = status.get("conditions") or []
    status["conditions"] = conditions
    if wrong:
        reason, message = wrong[-1]
        _set(conditions, "NamesAccepted", "False", reason, message, now)
        if not _holds(definition, "Established"):
            _set(conditions, "Established", "False", "NotAccepted", "not all names are accepted", now)
    else:
        _set(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        if not _holds(definition, "Established"):
            text = "the initial names have been accepted"
            _set(conditions, "Established", "True", "InitialNamesAccepted", text, now)
    _tell_approval(conditions, definition, now)
    if spec.get("preserveUnknownFields"):
        text = "spec.preserveUnknownFields: Invalid value: true: must be false"
        _set(conditions, "NonStructuralSchema", "True", "Violations", text, now)
    else:
        conditions[:] = [c for c in conditions if c["type"] != "NonStructuralSchema"]
    return status


_APPROVALS = {
    "Missing": ("False", "MissingAnnotation"),
    "Invalid": ("False", "InvalidAnnotation"),
    "Unapproved": ("False", "UnapprovedAnnotation"),
    "Approved": ("True", "ApprovedAnnotation"),
}


def _tell_approval(conditions: list[Object], definition: Object, now: str) -> None:
    """Groups of Kubernetes' own need leave, and say whether they have it."""
    state, message = approval(definition)
    if state:
        status, reason = _APPROVALS[state]
        _set(conditions, "KubernetesAPIApprovalPolicyConformant", status, reason, message, now)
    else:
        conditions[:] = [c for c in conditions if c["type"] != "KubernetesAPIApprovalPolicyConformant"]


def begin_deletion(definition: Object, now: str) -> Object:
    """The definition as it is when its deletion is asked for: kept until its objects are gone."""
    finalizers = definition["metadata"].get("finalizers") or []
    made = copy.deepcopy(definition)
    if FINALIZER not in finalizers:
        made["metadata"]["finalizers"] = [*finalizers, FINALIZER]
    text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    conditions = made.setdefault("status", {}).get("conditions") or []
    _set(conditions, "Terminating", "True", "InstanceDeletionPending", text, now)
    made["status"]["conditions"] = conditions
    return made


def deletion_status(definition: Object, *, left: int, now: str) -> Object:
    """The status while the objects are deleted."""
    status: Object = copy.deepcopy(definition.get("status") or {})
    conditions = status.get("conditions") or []
    status["conditions"] = conditions
    if left:
        text = "CustomResource deletion is in progress"
        _set(conditions, "Terminating", "True", "InstanceDeletionInProgress", text, now)
    else:
        text = "removed all instances"
        _set(conditions, "Terminating", "False", "InstanceDeletionCompleted", text, now)
    return status


def _taken(definition: Object, others: Iterable[Object]) -> tuple[set[str], set[str]]:
    """Names and kinds that other definitions of the group have been given already."""
    names: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if meta.uid_of(other) == meta.uid_of(definition) or other["spec"]["group"] != definition["spec"]["group"]:
            continue
        accepted = (other.get("status") or {}).get("acceptedNames") or {}
        names |= {accepted.get("plural", ""), accepted.get("singular", ""), *(accepted.get("shortNames") or ())}
        kinds |= {accepted.get("kind", ""), accepted.get("listKind", "")}
    return names - {""}, kinds - {""}


def _put(into: dict[str, Any], field: str, value: Any) -> None:
    if value:
        into[field] = value
    else:
        into.pop(field, None)


def _set(conditions: list[Object], kind: str, status: str, reason: str, message: str, now: str) -> None:
    new = {"type": kind, "status": status, "reason": reason, "message": message}
    old = meta.condition(conditions, kind)
    ordered = {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}
    if old is None:
        conditions.append(ordered)
    else:
        meta.set_condition(conditions, new, now=now)
