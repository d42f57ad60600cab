"""What a pod as a whole asks for, beside its containers.

Source: pkg/apis/core/validation/validation.go (validatePodResources), KEP-2837.
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.podspec import is_pod_level, sum_of_requests
from controlplane.apiserver.registry.objects import items, sub
from controlplane.apiserver.registry.validation.parts import dictionary
from controlplane.apiserver.registry.validation.resources import container_resources, parse
from machinery.api.fielderror import FieldError, invalid
from machinery.api.meta import Object


def pod_resources(at: str, spec: Object, claims: frozenset[str]) -> list[FieldError]:
    """`resources` of a pod: its containers together must fit in."""
    resources = dictionary(spec, "resources")
    if resources is None:
        return []
    errors = container_resources(at, resources, claims, pod_level=True)
    requests, limits = sub(resources, "requests"), sub(resources, "limits")
    for name, total in sorted(sum_of_requests(spec).items()):
        asked = parse(requests.get(name)) if name in requests else None
        if is_pod_level(name) and asked is not None and total > asked:
            detail = f"must be greater than or equal to aggregate container requests of {total}"
            errors.append(invalid(f"{at}.requests[{name}]", str(requests[name]), detail))
    base = at.removesuffix(".resources")
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(items(spec, kind)):
            own = sub(container, "resources", "limits")
            for name in sorted(own):
                limit, whole = parse(own[name]), parse(limits.get(name)) if name in limits else None
                if limit is not None and whole is not None and limit > whole:
                    detail = f"must be less than or equal to pod limits of {limits[name]}"
                    errors.append(invalid(f"{base}.{kind}[{index}].resources.limits[{name}]", str(own[name]), detail))
    return errors
