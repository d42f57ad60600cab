"""Reports about pods.

Source: pkg/apis/core/validation/validation.go (ValidatePodStatusUpdate).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import integer, items, sub, text, values
from controlplane.apiserver.registry.validation.parts import (
    IMMUTABLE,
    check_address,
    check_names,
    dictionary,
    parse_address,
    repeated,
    same,
    unsupported,
)
from controlplane.apiserver.registry.validation.pods import annotation_updates
from controlplane.apiserver.registry.validation.terminated import came_back
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

_SYSTEM_CONDITIONS = frozenset(("PodScheduled", "Ready", "Initialized"))
_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_HEALTH = ("Healthy", "Unhealthy", "Unknown")


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    """A report about a pod."""
    errors = annotation_updates(new, old)
    status, before, spec = sub(new, "status"), sub(old, "status"), sub(new, "spec")
    for index, condition in enumerate(items(status, "conditions")):
        kind = text(condition, "type")
        if kind not in _SYSTEM_CONDITIONS:
            errors += check_names(f"metadata.conditions[{index}].Type", kind, names.qualified_name)
    name = text(status, "nominatedNodeName")
    if name and name != text(before, "nominatedNodeName"):
        errors += check_names("status.nominatedNodeName", name, names.dns1123_subdomain)
    if not same(status.get("qosClass"), before.get("qosClass")):
        errors.append(invalid("status.qosClass", text(status, "qosClass"), IMMUTABLE))
    errors += came_back(status, before, sub(old, "spec"))
    errors += _claims(items(status, "resourceClaimStatuses"), items(spec, "resourceClaims"))
    if status.get("extendedResourceClaimStatus") is not None:
        errors += _special_claim(sub(status, "extendedResourceClaimStatus"), spec)
    errors += _pod_addresses(items(status, "podIPs"))
    errors += _host_addresses(text(status, "hostIP"), items(status, "hostIPs"))
    for kind in _LISTS:
        errors += _users(f"status.{kind}", items(status, kind), text(spec, "os", "name") or "linux")
    for kind, containers in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        errors += _allocated(f"status.{kind}", items(status, kind), items(spec, containers))
    return errors + [
        forbidden(
            f"status.ephemeralContainerStatuses[{i}].allocatedResourcesStatus",
            "must not be specified in container status",
        )
        for i, container in enumerate(items(status, "ephemeralContainerStatuses"))
        if items(container, "allocatedResourcesStatus")
    ]


def _claims(found: list[Object], wanted: list[Object]) -> list[FieldError]:
    """The claims that a pod has got are among those it asks for."""
    errors: list[FieldError] = []
    known, seen = {text(claim, "name") for claim in wanted}, set[str]()
    for index, status in enumerate(found):
        at, name = f"status.resourceClaimStatuses[{index}].name", text(status, "name")
        if name not in known:
            errors.append(invalid(at, name, "must match the name of an entry in `spec.resourceClaims`"))
        if name in seen:
            errors.append(repeated(at, name))
        seen.add(name)
        if isinstance(claim := status.get("resourceClaimName"), str):
            errors += check_names(at, claim, names.dns1123_subdomain)
    return errors


def _special_claim(found: Object, spec: Object) -> list[FieldError]:
    """The claim for extended resources is for those that the pod's containers ask for."""
    at = "status.extendedResourceClaimStatus"
    containers = {text(c, "name"): c for kind in ("initContainers", "containers") for c in items(spec, kind)}
    mappings = items(found, "requestMappings")
    errors = [] if mappings else [required(f"{at}.requestMappings", "at least one request mapping is required")]
    seen = set[tuple[str, ...]]()
    for index, mapping in enumerate(mappings):
        where = f"{at}.requestMappings[{index}]"
        parts = {part: text(mapping, part) for part in ("containerName", "resourceName", "requestName")}
        container = containers.get(parts["containerName"])
        if container is None:
            told = "must match the name of an entry in spec.initContainers.name or spec.containers.name"
            errors.append(invalid(f"{where}.containerName", parts["containerName"], told))
        elif parts["resourceName"] not in sub(container, "resources", "requests"):
            told = (
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or "
                "spec.containers.resources.requests"
            )
            errors.append(invalid(f"{where}.resourceName", parts["resourceName"], told))
        errors += check_names(f"{at}.requestName", parts["requestName"], names.dns1123_label)
        if tuple(parts.values()) in seen:
            errors += [repeated(f"{where}.{part}", value) for part, value in parts.items()]
        seen.add(tuple(parts.values()))
    name = text(found, "resourceClaimName")
    if not name:
        return [*errors, required(f"{at}.resourceClaimName", "")]
    return errors + check_names(f"{at}.resourceClaimName", name, names.dns1123_subdomain)


def _pod_addresses(found: list[Object]) -> list[FieldError]:
    at = "status.podIPs"
    return _valid(at, found) + _both_families(at, found) + _repeated(at, found)


def _host_addresses(first: str, found: list[Object]) -> list[FieldError]:
    at = "status.hostIPs"
    errors: list[FieldError] = []
    if found and text(found[0], "ip") != first:
        errors.append(invalid(f"{at}[0].ip", text(found[0], "ip"), "must be equal to `hostIP`"))
    return errors + _valid(at, found) + _repeated(at, found) + _both_families(at, found)


def _valid(at: str, found: list[Object]) -> list[FieldError]:
    return [error for i, entry in enumerate(found) for error in check_address(f"{at}[{i}]", text(entry, "ip"))]


def _both_families(at: str, found: list[Object]) -> list[FieldError]:
    versions = {a.version for e in found if (a := parse_address(text(e, "ip")))}
    if len(found) < 2 or (len(found) == 2 and len(versions) == 2):
        return []
    shown = [{"IP": text(e, "ip")} for e in found]
    return [invalid(at, shown, "may specify no more than one IP for each IP family")]


def _repeated(at: str, found: list[Object]) -> list[FieldError]:
    listed = [text(entry, "ip") for entry in found]
    return [repeated(f"{at}[{i}]", {"IP": ip}) for i, ip in enumerate(listed) if ip in listed[:i]]


def _users(at: str, statuses: list[Object], system: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, status in enumerate(statuses):
        user, where = dictionary(status, "user", "linux"), f"{at}[{index}].linux"
        if user is None:
            continue
        if system == "windows":
            errors.append(forbidden(where, "cannot be set for a windows pod"))
            continue
        ids = [(f"{where}.{key}", integer(user, key) or 0) for key in ("uid", "gid")]
        ids += [
            (f"{where}.supplementalGroups[{i}]", group)
            for i, group in enumerate(values(user, "supplementalGroups"))
            if isinstance(group, int)
        ]
        errors += [invalid(field, value, message) for field, value in ids for message in names.user_id(value)]
    return errors


def _allocated(at: str, statuses: list[Object], containers: list[Object]) -> list[FieldError]:
    """How the devices are that a container has got: each one that it asks for."""
    errors: list[FieldError] = []
    by_name = {text(container, "name"): container for container in reversed(containers)}
    for index, status in enumerate(statuses):
        for position, allocated in enumerate(items(status, "allocatedResourcesStatus")):
            where = f"{at}[{index}].allocatedResourcesStatus[{position}]"
            container = by_name.get(text(status, "name"))
            if container is not None:
                errors += _asked_for(f"{where}.name", text(allocated, "name"), sub(container, "resources"))
            seen: set[str] = set()
            for i, device in enumerate(items(allocated, "resources")):
                if (health := text(device, "health")) not in _HEALTH:
                    errors.append(unsupported(f"{where}.resources[{i}].health", health, _HEALTH))
                if (identity := text(device, "resourceID")) in seen:
                    errors.append(repeated(f"{where}.resources[{i}].resourceID", identity))
                seen.add(identity)
    return errors


def _asked_for(at: str, name: str, resources: Object) -> list[FieldError]:
    if not name.startswith("claim:"):
        asked = name in sub(resources, "requests")
        return [] if asked else [invalid(at, name, "must match one of the container's resource requests")]
    claims = {
        "claim:" + "/".join(filter(None, (text(c, "name"), text(c, "request")))) for c in items(resources, "claims")
    }
    detail = (
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
        "'claim:<claimName>' if request is empty"
    )
    return [] if name in claims else [invalid(at, name, detail)]
