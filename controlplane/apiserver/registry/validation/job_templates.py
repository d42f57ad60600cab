"""What may change in the pod template of a Job: nothing, unless the Job is suspended and has no pods.

Source: pkg/apis/batch/validation/validation.go (validatePodTemplateUpdate), pkg/registry/batch/job/strategy.go;
KEP-5440 (MutablePodResourcesForSuspendedJobs, MutableSchedulingDirectivesForSuspendedJobs).
"""

from __future__ import annotations

from typing import Final

from controlplane.apiserver.registry.objects import flag, items, number, sub, text
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import IMMUTABLE, same
from machinery.api.fielderror import FieldError, invalid
from machinery.api.meta import Object

_SCHEDULING: Final = ("nodeSelector", "tolerations", "schedulingGates")


def template_update(after: Object, before: Object, status: Object) -> list[FieldError]:
    """A change of `spec.template` between two specs of a Job; `status` is the Job's as it is."""
    new, old = sub(after, "template"), sub(before, "template")
    if not (flag(before, "suspend") and _is_at_rest(status)):
        if _alike(new, old):
            return []
        return [invalid("spec.template", internal_forms.pod_template(new), IMMUTABLE)]
    if _alike(_fixed(sub(new, "spec")), _fixed(sub(old, "spec"))):
        return []
    return [invalid("spec.template.spec", internal_forms.pod_spec(sub(new, "spec")), IMMUTABLE)]


def _is_at_rest(status: Object) -> bool:
    """Whether a suspended Job has never started, or has told that its pods are gone."""
    told = any(
        text(condition, "type") == "Suspended" and text(condition, "status") == "True"
        for condition in items(status, "conditions")
    )
    return number(status, "active") == 0 and (status.get("startTime") is None or told)


def _alike(new: Object, old: Object) -> bool:
    """Equality that takes absent and empty for the same, at the top and of what is below."""
    return all(
        _alike(new[k], old[k]) if isinstance(new.get(k), dict) and isinstance(old.get(k), dict) else same(n, o)
        for k in new.keys() | old.keys()
        for n, o in ((new.get(k), old.get(k)),)
    )


def _fixed(spec: Object) -> Object:
    """What stays of a pod's spec even then: all but where it may run and what its containers ask for."""
    kept = {k: v for k, v in spec.items() if k not in _SCHEDULING}
    kept["affinity"] = {k: v for k, v in sub(spec, "affinity").items() if k != "nodeAffinity"}
    for kind in ("containers", "initContainers"):
        kept[kind] = [_without_amounts(container) for container in items(spec, kind)]
    return kept


def _without_amounts(container: Object) -> Object:
    resources = {k: v for k, v in sub(container, "resources").items() if k not in ("requests", "limits") and v}
    kept = {k: v for k, v in container.items() if k != "resources"}
    return kept | {"resources": resources} if resources else kept
