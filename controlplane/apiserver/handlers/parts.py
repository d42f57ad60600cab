"""Subresources that change one part of their parent: what each of them may change.

Source: pkg/registry/core/namespace/strategy.go (finalize), pkg/registry/core/pod/strategy.go (ephemeralcontainers,
resize).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.handlers.contract import UpdateRules
from controlplane.apiserver.registry.kinds.certificates import prepare_approval
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.registry.validation import pod_parts
from controlplane.apiserver.registry.validation.certificates import approval_update
from machinery.api import catalogue as c
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _finalize(new: Object, old: Object, context: Context) -> None:
    if "status" in old:
        new["status"] = old["status"]
    else:
        new.pop("status", None)


def _no_errors(new: Object, old: Object) -> list[FieldError]:
    return []


def _count_generation(new: Object, old: Object) -> None:
    if new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1


def _ephemeral(new: Object, old: Object, context: Context) -> None:
    """Only the list of ephemeral containers may change."""
    wanted = (new.get("spec") or {}).get("ephemeralContainers")
    spec = {k: v for k, v in old["spec"].items() if k != "ephemeralContainers"}
    if wanted:
        spec["ephemeralContainers"] = wanted
    metadata = dict(old["metadata"])
    for key in ("resourceVersion", "managedFields"):
        if key in new["metadata"]:
            metadata[key] = new["metadata"][key]
    new.clear()
    new.update({**old, "metadata": metadata, "spec": spec})
    _count_generation(new, old)


_RESIZED = ("resources", "resizePolicy")


def _resize(new: Object, old: Object, context: Context) -> None:
    """Only resources of containers may change."""
    spec = dict(old["spec"])
    for key in ("containers", "initContainers"):
        if key in spec:
            spec[key] = _resized(spec[key], (new.get("spec") or {}).get(key) or [])
    if "resources" in (new.get("spec") or {}):
        spec["resources"] = new["spec"]["resources"]
    metadata = dict(old["metadata"])
    for key in ("resourceVersion", "managedFields"):
        if key in new["metadata"]:
            metadata[key] = new["metadata"][key]
    new.clear()
    new.update({**old, "metadata": metadata, "spec": spec})
    _count_generation(new, old)


def _resized(before: list[Any], wanted: list[Any]) -> list[Any]:
    by_name = {container.get("name"): container for container in wanted}
    made = []
    for container in before:
        other = by_name.get(container.get("name"), container)
        changed = {k: v for k, v in container.items() if k not in _RESIZED}
        made.append(changed | {k: other[k] for k in _RESIZED if k in other})
    return made


RULES: dict[tuple[ResourceType, str], UpdateRules] = {
    (c.CERTIFICATESIGNINGREQUESTS, "approval"): UpdateRules(prepare_approval, approval_update),
    (c.NAMESPACES, "finalize"): UpdateRules(_finalize, _no_errors),
    (c.PODS, "ephemeralcontainers"): UpdateRules(_ephemeral, pod_parts.ephemeral_update),
    (c.PODS, "resize"): UpdateRules(_resize, pod_parts.resize),
}
