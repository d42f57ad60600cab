"""What containers and pods ask for.

Source: pkg/apis/core/validation/validation.go (ValidateResourceRequirements and what it calls).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import items, sub, text
from controlplane.apiserver.registry.validation.parts import check_names, missing, repeated, unsupported
from machinery.api import names, quantity
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

_STANDARD = frozenset(
    [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
    ]
)
_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_INTEGER = frozenset(
    [
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ]
)
MUST_BE_INTEGER = "must be an integer"


def parse(amount: Any) -> quantity.Quantity | None:
    """A quantity; None if it is none (the schema has let it through)."""
    try:
        return quantity.parse(amount)
    except (ValueError, TypeError, AttributeError):
        return None


def is_native(name: str) -> bool:
    """Whether a resource is one of Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether a resource is one that device plugins and the like offer."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def is_huge_pages(name: str) -> bool:
    """Whether a resource is huge pages of some size."""
    return name.startswith("hugepages-")


def is_standard_name(name: str) -> bool:
    """Whether a name without prefix is a known resource."""
    return name in _STANDARD or is_huge_pages(name) or name.startswith("requests.hugepages-")


def may_overcommit(name: str) -> bool:
    """Whether limits may exceed requests."""
    return is_native(name) and not is_huge_pages(name)


def resource_name(field: str, name: str) -> list[FieldError]:
    """The name of a resource, anywhere."""
    errors = check_names(field, name, names.qualified_name)
    if not errors and "/" not in name and not is_standard_name(name):
        return [invalid(field, name, "must be a standard resource type or fully qualified")]
    return errors


def container_resource_name(field: str, name: str) -> list[FieldError]:
    """The name of a resource that a container can ask for."""
    errors = resource_name(field, name)
    if "/" not in name:
        if name not in _CONTAINER and not is_huge_pages(name):
            errors.append(invalid(field, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid(field, name, "doesn't follow extended resource name standard"))
    return errors


def resource_value(field: str, name: str, amount: Any) -> list[FieldError]:
    """An amount of a resource: not negative, and whole where halves make no sense."""
    errors = not_negative_amount(field, amount)
    parsed = parse(amount)
    if parsed is not None and (name in _INTEGER or is_extended(name)) and not parsed.is_integer():
        errors.append(invalid(field, str(amount), MUST_BE_INTEGER))
    return errors


def not_negative_amount(field: str, amount: Any) -> list[FieldError]:
    """An amount from 0 on."""
    parsed = parse(amount)
    if parsed is not None and parsed.nanos < 0:
        return [invalid(field, str(amount), "must be greater than or equal to 0")]
    return []


def container_resources(
    field: str, resources: Object, claims: frozenset[str], *, pod_level: bool = False
) -> list[FieldError]:
    """Requests, limits and claims of a container; or of a pod as a whole."""
    errors: list[FieldError] = []
    if pod_level and items(resources, "claims"):
        errors.append(forbidden(f"{field}.claims", "claims cannot be set for Resources at pod-level"))
    limits, requests = sub(resources, "limits"), sub(resources, "requests")
    plain, huge = False, False
    for name, amount in sorted(limits.items()):
        errors += _resource(f"{field}.limits[{name}]", name, amount, pod_level)
        errors += resource_value(f"{field}.limits[{name}]", name, amount)
        if is_huge_pages(name):
            huge = True
            errors += _huge_page_size(f"{field}.limits[{name}]", name, amount)
        if name in ("cpu", "memory"):
            plain = True
    for name, amount in sorted(requests.items()):
        errors += _resource(f"{field}.requests[{name}]", name, amount, pod_level)
        errors += resource_value(f"{field}.requests[{name}]", name, amount)
        errors += _against_limit(field, name, amount, limits)
        if is_huge_pages(name):
            huge = True
            errors += _huge_page_size(f"{field}.requests[{name}]", name, amount)
        if name in ("cpu", "memory"):
            plain = True
    if huge and not plain:
        errors.append(forbidden(field, "HugePages require cpu or memory"))
    return errors + _claims(f"{field}.claims", items(resources, "claims"), claims)


def _resource(field: str, name: str, amount: Any, pod_level: bool) -> list[FieldError]:
    if not pod_level:
        return container_resource_name(field, name)
    errors = resource_name(field, name)
    if errors:
        return errors
    if name not in ("cpu", "memory") and not is_huge_pages(name):
        return [unsupported(field, name, ("cpu", "hugepages-", "memory"))]
    return []


def _huge_page_size(field: str, name: str, amount: Any) -> list[FieldError]:
    size, asked = parse(name.removeprefix("hugepages-")), parse(amount)
    if asked is None:
        return []
    if size is None or size.nanos <= 0 or not size.is_integer() or asked.nanos % size.nanos:
        return [invalid(field, str(amount), f"{amount} is not positive integer multiple of {name}")]
    return []


def _against_limit(field: str, name: str, amount: Any, limits: Object) -> list[FieldError]:
    at = f"{field}.requests"
    if name in limits:
        limit, request = parse(limits[name]), parse(amount)
        if limit is None or request is None:
            return []
        if request != limit and not may_overcommit(name):
            return [invalid(at, str(amount), f"must be equal to {name} limit of {limits[name]}")]
        if request > limit:
            return [invalid(at, str(amount), f"must be less than or equal to {name} limit of {limits[name]}")]
        return []
    if not may_overcommit(name):
        return [required(f"{field}.limits", "Limit must be set for non overcommitable resources")]
    return []


def _claims(field: str, claims: list[Object], known: frozenset[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(claims):
        name, request = text(claim, "name"), text(claim, "request")
        at = f"{field}[{index}]"
        if not name:
            errors.append(required(at))
            continue
        if (name, "") in seen:
            errors.append(repeated(at, name))
        else:
            if request:
                errors += check_names(f"{at}.request", request, names.dns1123_label)
            if (name, request) in seen:
                errors.append(repeated(at, f"{name}/{request}"))
            elif not request:
                errors += [repeated(at, name) for other, _ in seen if other == name]
            seen.add((name, request))
        if name not in known:
            told = f": {', '.join(sorted(known))}" if known else " which is empty"
            errors.append(missing(at, name, f"must be one of the names in pod.spec.resourceClaims{told}"))
    return errors
