"""Subresources that change one part of their parent: what each of them may change.

Source: pkg/registry/core/namespace/strategy.go (finalize), pkg/registry/core/pod/strategy.go (ephemeralcontainers,
resize).
"""

from __future__ import annotations

from controlplane.apiserver.handlers.contract import UpdateRules
from controlplane.apiserver.registry.kinds.certificates import prepare_approval
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.registry.validation import pod_parts
from controlplane.apiserver.registry.validation.certificates import approval_update
from controlplane.apiserver.registry.validation.configuration import namespace_finalizers
from machinery.api import catalogue as c
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _finalize(new: Object, old: Object, context: Context) -> None:
    if "status" in old:
        new["status"] = old["status"]
    else:
        new.pop("status", None)


def _count_generation(new: Object, old: Object) -> None:
    if new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1


def _ephemeral(new: Object, old: Object, context: Context) -> None:
    """Only the list of ephemeral containers may change."""
    wanted = (new.get("spec") or {}).get("ephemeralContainers")
    spec = {k: v for k, v in old["spec"].items() if k != "ephemeralContainers"}
    if wanted:
        spec["ephemeralContainers"] = wanted
    _replace(new, old, spec)


_RESIZED = ("resources", "resizePolicy")


def _resize(new: Object, old: Object, context: Context) -> None:
    """Only resources of containers, and of the pod, may change; what else is changed is for validation to see."""
    wanted = new.get("spec") or {}
    spec = dict(old["spec"])
    for key in ("containers", "initContainers"):
        before, after = spec.get(key) or [], wanted.get(key) or []
        if [e.get("name") for e in before] != [e.get("name") for e in after]:
            spec[key] = after
        elif before:
            spec[key] = [_resized(e, other) for e, other in zip(before, after, strict=True)]
    if "resources" in wanted:
        spec["resources"] = wanted["resources"]
    else:
        spec.pop("resources", None)
    _replace(new, old, spec)


def _replace(new: Object, old: Object, spec: Object) -> None:
    """Make the new pod the old one with this spec."""
    metadata = dict(old["metadata"])
    for key in ("resourceVersion", "managedFields"):
        if key in new["metadata"]:
            metadata[key] = new["metadata"][key]
    new.clear()
    new.update({**old, "metadata": metadata, "spec": spec})
    _count_generation(new, old)


def _resized(before: Object, wanted: Object) -> Object:
    kept = {k: v for k, v in before.items() if k not in _RESIZED}
    return kept | {k: wanted[k] for k in _RESIZED if k in wanted}


RULES: dict[tuple[ResourceType, str], UpdateRules] = {
    (c.CERTIFICATESIGNINGREQUESTS, "approval"): UpdateRules(prepare_approval, approval_update),
    (c.NAMESPACES, "finalize"): UpdateRules(_finalize, namespace_finalizers),
    (c.PODS, "ephemeralcontainers"): UpdateRules(_ephemeral, pod_parts.ephemeral_update),
    (c.PODS, "resize"): UpdateRules(_resize, pod_parts.resize),
}
