"""What storage drivers publish about themselves and their nodes.

Source: pkg/apis/storage/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import integer, items, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    label_selector,
    must_equal,
    not_negative,
    repeated,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import not_negative_amount
from controlplane.apiserver.registry.validation.sources import csi_driver_name
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required
from machinery.api.meta import Object


def csi_node(obj: Object) -> list[FieldError]:
    """A CSINode."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, driver in enumerate(items(obj, "spec", "drivers")):
        at = f"spec.drivers[{index}]"
        name, node = text(driver, "name"), text(driver, "nodeID")
        errors += csi_driver_name(f"{at}.name", name)
        if not node:
            errors.append(required(f"{at}.nodeID"))
        elif len(node) > 256:
            errors.append(invalid(f"{at}.nodeID", node, "must be 256 characters or less"))
        count = integer(driver, "allocatable", "count")
        errors += not_negative(f"{at}.allocatable.count", count)
        if name in seen:
            errors.append(repeated(f"{at}.name", name))
        seen.add(name)
        keys = [k for k in values(driver, "topologyKeys") if isinstance(k, str)]
        for position, key in enumerate(keys):
            if not key:
                errors.append(required(at, key))
            if key in keys[:position]:
                errors.append(repeated(at, key))
            errors += check_names(at, key, names.qualified_name)
    return errors


def csi_node_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a CSINode: drivers come and go, and don't change; upstream looks at all of it twice."""
    errors = csi_node(new) * 2
    drivers = items(new, "spec", "drivers")
    for before in items(old, "spec", "drivers"):
        for driver in drivers:
            if text(driver, "name") == text(before, "name"):
                errors += must_equal("spec.drivers", _fixed_parts(driver), _fixed_parts(before))
    return errors


def _fixed_parts(driver: Object) -> Any:
    return internal_forms.csi_driver({**driver, "allocatable": None})


_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def csi_driver(obj: Object) -> list[FieldError]:
    """A CSIDriver."""
    spec = sub(obj, "spec")
    keys = (("attachRequired", "attachedRequired"), *((key, key) for key in ("podInfoOnMount", "storageCapacity")))
    errors = [required(f"spec.{told}") for key, told in keys if spec.get(key) is None]
    policy = spec.get("fsGroupPolicy")
    if policy is None:
        errors.append(required("spec.fsGroupPolicy"))
    elif policy not in _FS_GROUP_POLICIES:
        errors.append(unsupported("spec.fsGroupPolicy", policy, _FS_GROUP_POLICIES))
    errors += _token_requests("spec.tokenRequests", items(spec, "tokenRequests"))
    if spec.get("serviceAccountTokenInSecrets") is not None and not items(spec, "tokenRequests"):
        value = spec["serviceAccountTokenInSecrets"]
        detail = "must not be set when tokenRequests is empty"
        errors.append(invalid("spec.serviceAccountTokenInSecrets", value, detail))
    for mode in values(spec, "volumeLifecycleModes"):
        if mode not in ("Persistent", "Ephemeral"):
            errors.append(unsupported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral")))
    if spec.get("seLinuxMount") is None:
        errors.append(required("spec.seLinuxMount"))
    period = integer(spec, "nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        detail = "must be greater than or equal to 10 seconds"
        errors.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    return errors


def _token_requests(at: str, requests: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, request in enumerate(requests):
        audience, seconds = text(request, "audience"), integer(request, "expirationSeconds")
        if audience in seen:
            errors.append(repeated(f"{at}[{index}].audience", audience))
            continue
        seen.add(audience)
        where = f"{at}[{index}].expirationSeconds"
        if seconds is not None and seconds < 600:
            errors.append(invalid(where, seconds, "may not specify a duration less than 10 minutes"))
        if seconds is not None and seconds > 1 << 32:
            errors.append(invalid(where, seconds, "may not specify a duration larger than 2^32 seconds"))
    return errors


def csi_driver_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a CSIDriver."""
    errors = csi_driver(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    errors += must_equal("spec.attachedRequired", after.get("attachRequired"), before.get("attachRequired"))
    key = "volumeLifecycleModes"
    return errors + must_equal(f"spec.{key}", after.get(key), before.get(key))


def csi_capacity(obj: Object) -> list[FieldError]:
    """A CSIStorageCapacity."""
    errors = label_selector("nodeTopology", obj.get("nodeTopology"))
    errors += check_names("storageClassName", text(obj, "storageClassName"), names.dns1123_subdomain)
    return errors if obj.get("capacity") is None else errors + not_negative_amount("capacity", obj["capacity"])


def csi_capacity_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a CSIStorageCapacity: what it is about stays."""
    errors = csi_capacity(new)
    for key in ("nodeTopology", "storageClassName"):
        errors += must_equal(key, new.get(key), old.get(key))
    return errors
