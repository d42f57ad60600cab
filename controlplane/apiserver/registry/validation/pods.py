"""Pods: on create, update, and change of status.

Source: pkg/apis/core/validation/validation.go (ValidatePodCreate, ValidatePodUpdate, ValidatePodStatusUpdate).
"""

from __future__ import annotations

import copy

from controlplane.apiserver.registry.objects import integer, items, strings, sub, text
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    ordered,
    same,
)
from controlplane.apiserver.registry.validation.podspec import pod_annotations, pod_spec
from controlplane.apiserver.registry.validation.profiles import agreement
from controlplane.apiserver.registry.validation.scheduling import tolerations
from controlplane.apiserver.registry.validation.volumes import claim_names
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object, name_of

_CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MAX_INT32 = 2**31 - 1


def validate(pod: Object) -> list[FieldError]:
    """A new pod."""
    errors = whole_pod(pod)
    spec = sub(pod, "spec")
    if items(spec, "ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if text(spec, "nodeName") and items(spec, "schedulingGates"):
        errors.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors + agreement("spec", pod)


def whole_pod(pod: Object) -> list[FieldError]:
    """What every pod must be, new or changed."""
    spec = sub(pod, "spec")
    errors = pod_annotations("metadata.annotations", pod)
    errors += pod_spec("spec", spec) + claim_names("spec.volumes", name_of(pod), items(spec, "volumes"))
    if not text(spec, "serviceAccountName"):
        for index, volume in enumerate(items(spec, "volumes")):
            for position, source in enumerate(items(volume, "projected", "sources")):
                if isinstance(source.get("serviceAccountToken"), dict):
                    at = f"spec.volumes[{index}].projected.sources[{position}].serviceAccountToken"
                    errors.append(forbidden(at, "must not be specified when serviceAccountName is not set"))
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(items(spec, kind)):
            image = text(container, "image")
            if image != image.strip():
                at = f"spec.{kind}[{index}].image"
                errors.append(invalid(at, image, "must not have leading or trailing whitespace"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a pod: little may change."""
    errors = whole_pod(new) + annotation_updates(new, old)
    after, before = sub(new, "spec"), sub(old, "spec")
    for kind in ("containers", "initContainers"):
        if len(items(after, kind)) != len(items(before, kind)):
            return [*errors, forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
        errors += _images(kind, after)  # once more
    deadline, earlier = integer(after, "activeDeadlineSeconds"), integer(before, "activeDeadlineSeconds")
    if wrong := _deadline(deadline, earlier):
        errors.append(wrong)
        if deadline is not None:
            return errors
    errors += _tolerations(items(after, "tolerations"), items(before, "tolerations"))
    errors += _gates(items(after, "schedulingGates"), items(before, "schedulingGates"))
    if after == before:
        return errors
    munged = _munged(after, before)
    if items(before, "schedulingGates"):
        errors += _gated(munged, before)
    return errors + other_changes(munged, before, _CHANGEABLE)


def _images(kind: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, container in enumerate(items(spec, kind)):
        at, image = f"spec.{kind}[{index}].image", text(container, "image")
        if not image:
            errors.append(required(at))
        if image != image.strip():
            errors.append(invalid(at, image, "must not have leading or trailing whitespace"))
    return errors


def other_changes(munged: Object, before: Object, changeable: str) -> list[FieldError]:
    """The error that fields other than these have changed, if they have."""
    if all(same(munged.get(k), before.get(k)) for k in munged.keys() | before.keys()):
        return []
    shown = internal_forms.difference(internal_forms.pod_spec(before), internal_forms.pod_spec(munged))
    return [forbidden("spec", f"pod updates may not change fields other than {changeable}\n{shown}")]


def _munged(after: Object, before: Object) -> Object:
    munged = copy.deepcopy(after)
    for kind in ("containers", "initContainers"):
        for container, earlier in zip(items(munged, kind), items(before, kind), strict=True):
            if "image" in earlier:
                container["image"] = earlier["image"]
            else:
                container.pop("image", None)
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        if key in before:
            munged[key] = before[key]
        else:
            munged.pop(key, None)
    grace = integer(before, "terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and integer(munged, "terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = grace
    return munged


def _deadline(new: int | None, old: int | None) -> FieldError | None:
    at = "spec.activeDeadlineSeconds"
    if new is not None:
        if not 0 <= new <= _MAX_INT32:
            return invalid(at, new, names.range_error(0, _MAX_INT32))
        if old is not None and old < new:
            return invalid(at, new, "must be less than or equal to previous value")
    elif old is not None:
        return invalid(at, None, "must not update from a positive integer to nil value")
    return None


def _tolerations(new: list[Object], old: list[Object]) -> list[FieldError]:
    def apart(toleration: Object) -> Object:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    kept = [apart(t) for t in new]
    if any(apart(t) not in kept for t in old):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden("spec.tolerations", detail)]
    return tolerations("spec.tolerations", new)


def _gates(new: list[Object], old: list[Object]) -> list[FieldError]:
    known = {text(g, "name") for g in old}
    detail = "only deletion is allowed, but found new scheduling gate '{}'"
    return [
        forbidden(f"spec.schedulingGates[{index}].name", detail.format(text(gate, "name")))
        for index, gate in enumerate(new)
        if text(gate, "name") not in known
    ]


def _gated(munged: Object, before: Object) -> list[FieldError]:
    """A pod that is not to be scheduled yet may become choosier about its node."""
    errors: list[FieldError] = []
    selector, earlier = strings(munged, "nodeSelector"), strings(before, "nodeSelector")
    if selector != earlier:
        if any(selector.get(k) != v for k, v in earlier.items()):
            detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            errors.append(invalid("spec.nodeSelector", ordered(selector), detail))
        _restore(munged, before, "nodeSelector")
    affinity, was = sub(munged, "affinity"), sub(before, "affinity")
    if affinity.get("nodeAffinity") != was.get("nodeAffinity"):
        errors += _narrowed(sub(affinity, "nodeAffinity"), sub(was, "nodeAffinity"))
        if "affinity" not in munged:
            munged["affinity"] = {"nodeAffinity": was["nodeAffinity"]}
        elif "affinity" not in before and set(affinity) <= {"nodeAffinity"}:
            _restore(munged, before, "affinity")
        else:
            _restore(affinity, was, "nodeAffinity")
    return errors


def _restore(munged: Object, before: Object, key: str) -> None:
    if key in before:
        munged[key] = before[key]
    else:
        munged.pop(key, None)


_NARROWED = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"


def _narrowed(new: Object, old: Object) -> list[FieldError]:
    at = f"{_NARROWED}.nodeSelectorTerms"
    terms = items(new, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    earlier = items(old, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    if not earlier:
        return []
    if len(terms) != len(earlier):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [invalid(at, [internal_forms.node_term(term) for term in terms] or None, detail)]
    detail = "only additions are allowed (no mutations or deletions)"
    return [
        invalid(f"{at}[{index}]", internal_forms.node_term(term), detail)
        for index, (term, was) in enumerate(zip(terms, earlier, strict=True))
        if not _only_added(term, was)
    ]


def _only_added(term: Object, was: Object) -> bool:
    kinds = ("matchExpressions", "matchFields")
    if not any(items(was, kind) for kind in kinds):
        return not any(items(term, kind) for kind in kinds)
    return all(items(term, kind)[: len(items(was, kind))] == items(was, kind) for kind in kinds)


def annotation_updates(new: Object, old: Object) -> list[FieldError]:
    """Annotations that nodes read may not change under them; what they must be is told again."""
    errors: list[FieldError] = []
    after, before = strings(new, "metadata", "annotations"), strings(old, "metadata", "annotations")
    mirror = "kubernetes.io/config.mirror"
    for key in sorted(after.keys() | before.keys()):
        if after.get(key) == before.get(key):
            continue
        at = f"metadata.annotations[{key}]"
        if key == mirror:
            errors.append(
                forbidden(
                    at,
                    "may not remove or update mirror pod annotation"
                    if key in before
                    else "may not add mirror pod annotation",
                )
            )
        elif key.startswith("container.apparmor.security.beta.kubernetes.io/"):
            errors.append(
                forbidden(
                    at,
                    "may not remove or update AppArmor annotations"
                    if key in before
                    else "may not add AppArmor annotations",
                )
            )
    return errors + pod_annotations("metadata.annotations", new)
