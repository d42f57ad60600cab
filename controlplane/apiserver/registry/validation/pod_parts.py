"""Changes of pods through their subresources: ephemeral containers are added, containers are resized.

Source: pkg/apis/core/validation/validation.go (ValidatePodEphemeralContainersUpdate, ValidatePodResize).
"""

from __future__ import annotations

import copy

from controlplane.apiserver.registry.objects import items, set_or_drop, sub, text
from controlplane.apiserver.registry.pod_facts import quality_of_service
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import same
from controlplane.apiserver.registry.validation.pods import annotation_updates, whole_pod
from machinery.api.fielderror import FieldError, forbidden, invalid
from machinery.api.meta import Object
from machinery.api.podresources import is_sidecar

_MIRROR = "kubernetes.io/config.mirror"
_RESIZED = ("cpu", "memory")


def _is_mirror(pod: Object) -> bool:
    return _MIRROR in sub(pod, "metadata", "annotations")


def ephemeral_update(new: Object, old: Object) -> list[FieldError]:
    """Ephemeral containers are added, and neither changed nor removed."""
    if _is_mirror(old):
        return [forbidden("[]", "static pods do not support ephemeral containers")]
    errors = whole_pod(new) + annotation_updates(new, old)
    wanted = {text(c, "name"): c for c in items(new, "spec", "ephemeralContainers")}
    at = "spec.ephemeralContainers"
    for container in items(old, "spec", "ephemeralContainers"):
        name = text(container, "name")
        told = f'existing ephemeral containers "{name}" may not be'
        if name not in wanted:
            errors.append(forbidden(at, f"{told} removed\n"))
        elif wanted[name] != container:
            form = internal_forms.ephemeral_container
            shown = internal_forms.difference(form(container), form(wanted[name]))
            errors.append(forbidden(at, f"{told} changed\n{shown}"))
    return errors


def resize(new: Object, old: Object) -> list[FieldError]:
    """Only cpu and memory of containers that run may change, and only so that the pod stays what it is."""
    if _is_mirror(old):
        return [forbidden("[]", "static pods cannot be resized")]
    if text(old, "spec", "os", "name") == "windows":
        return [forbidden("[]", "windows pods cannot be resized")]
    errors = whole_pod(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    was = text(old, "status", "qosClass") or quality_of_service(before)
    if was != quality_of_service(after):
        told = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid("spec", text(new, "status", "qosClass"), told))
    if not _supported(old):
        errors.append(forbidden("spec", "Pod running on node without support for resize"))
    errors += _pod_level(after, before)
    if disorder := _order("containers", after, before) + _order("initContainers", after, before):
        return errors + disorder
    for kind in ("initContainers", "containers"):
        for index, (now, then) in enumerate(zip(items(after, kind), items(before, kind), strict=True)):
            at = f"spec.{kind}[{index}].resources"
            errors += _nothing_removed(at, sub(now, "resources"), sub(then, "resources"), "resource")
    return errors + _nothing_else(after, before)


def _order(kind: str, after: Object, before: Object) -> list[FieldError]:
    new, old = ([text(c, "name") for c in items(spec, kind)] for spec in (after, before))
    if len(new) != len(old):
        return [forbidden(f"spec.{kind}", f"{kind} may not be added or removed on resize")]
    told = f"{kind} may not be renamed or reordered on resize"
    return [forbidden(f"spec.{kind}[{i}].name", told) for i, name in enumerate(new) if name != old[i]]


def _pod_level(after: Object, before: Object) -> list[FieldError]:
    """Resources of the pod as a whole."""
    new, old = after.get("resources"), before.get("resources")
    if not isinstance(old, dict) and not isinstance(new, dict):
        return []
    if isinstance(old, dict) and not isinstance(new, dict):
        return [forbidden("spec.resources", "pod-level resources cannot be removed")]
    errors = _nothing_removed("spec.resources", new or {}, old or {}, "pod-level resource")
    if not same(_with_old_amounts({"resources": new}, {"resources": old or {}}), {"resources": old or {}}):
        errors.append(forbidden("spec", "only cpu and memory resources are mutable at pod-level"))
    return errors


def _supported(pod: Object) -> bool:
    """Whether the node reports resources of containers, as far as it reports anything."""
    running = (s for s in items(pod, "status", "containerStatuses") if isinstance(sub(s, "state").get("running"), dict))
    first = next(running, None)
    return first is None or isinstance(first.get("resources"), dict)


def _nothing_removed(at: str, new: Object, old: Object, what: str) -> list[FieldError]:
    return [
        forbidden(f"{at}.{kind}", f"{what} {kind} cannot be removed")
        for kind in ("requests", "limits")
        if sub(old, kind).keys() - sub(new, kind).keys()
    ]


def _nothing_else(after: Object, before: Object) -> list[FieldError]:
    """What is not cpu or memory stays."""
    errors = [
        forbidden("spec", "only cpu and memory resources are mutable")
        for now, then in zip(items(after, "containers"), items(before, "containers"), strict=True)
        if _with_old_amounts(now, then) != then
    ]
    pairs = zip(items(after, "initContainers"), items(before, "initContainers"), strict=True)
    for index, (now, then) in enumerate(pairs):
        at = f"spec.initContainers[{index}]"
        if _with_old_amounts(now, then) != then:
            errors.append(forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
        restarts = any(text(policy, "restartPolicy") == "RestartContainer" for policy in items(now, "resizePolicy"))
        if restarts and not is_sidecar(now) and not same(now, then):
            told = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            errors.append(forbidden(at, told))
    return errors


def _with_old_amounts(now: Object, then: Object) -> Object:
    """The container with the old amounts of what may change."""
    munged = copy.deepcopy(now)
    for kind in ("limits", "requests"):
        earlier = sub(then, "resources", kind)
        amounts = {k: v for k, v in sub(now, "resources", kind).items() if k not in _RESIZED}
        amounts |= {k: earlier[k] for k in _RESIZED if k in earlier}
        if amounts:
            munged.setdefault("resources", {})[kind] = amounts
        else:
            munged.get("resources", {}).pop(kind, None)
    if not munged.get("resources"):
        set_or_drop(munged, "resources", then if not sub(then, "resources") else {})
    return munged
