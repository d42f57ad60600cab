"""What a pod as a whole asks for, beside its containers.

Source: pkg/apis/core/validation/validation.go (validatePodResources), KEP-2837.
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.podspec import sum_of
from controlplane.apiserver.registry.objects import items, sub, text
from controlplane.apiserver.registry.validation.parts import dictionary
from controlplane.apiserver.registry.validation.resources import container_resources, parse
from machinery.api.fielderror import FieldError, forbidden, invalid
from machinery.api.meta import Object


def pod_resources(at: str, spec: Object, claims: frozenset[str]) -> list[FieldError]:
    """`resources` of a pod: its containers together must fit in."""
    resources = dictionary(spec, "resources")
    if resources is None:
        return []
    if text(spec, "os", "name") == "windows":
        return [forbidden(at, "may not be set for a windows pod")]
    errors = container_resources(at, resources, claims, pod_level=True)
    requests, limits = sub(resources, "requests"), sub(resources, "limits")
    for which, amounts in (("requests", requests), ("limits", limits)):
        for name, total in sorted(sum_of(spec, which).items()):
            whole = parse(amounts.get(name)) if name in amounts else None
            if whole is not None and total > whole and (which == "requests" or name.startswith("hugepages-")):
                detail = f"must be greater than or equal to aggregate container {which} of {total}"
                errors.append(invalid(f"{at}.{which}[{name}]", str(amounts[name]), detail))
    for index, container in enumerate(items(spec, "containers")):
        own = sub(container, "resources", "limits")
        for name in sorted(own):
            limit, whole = parse(own[name]), parse(limits.get(name)) if name in limits else None
            if limit is not None and whole is not None and limit > whole:
                detail = f"must be less than or equal to pod limits of {limits[name]}"
                # Upstream's own path, which is not where the limit stands.
                errors.append(invalid(f"{at}.containers[{index}][{name}].limits", str(own[name]), detail))
    return errors
