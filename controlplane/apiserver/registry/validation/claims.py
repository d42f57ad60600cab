"""PersistentVolumeClaims, and the templates of them.

Source: pkg/apis/core/validation/validation.go (ValidatePersistentVolumeClaim…).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    must_equal,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import is_native, parse
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_A_PATH: Object = {}  # upstream shows the path of a field here, and paths have no JSON
POSITIVE = "must be greater than zero"


def access_modes(at: str, modes: list[object], detail: str = "at least 1 access mode is required") -> list[FieldError]:
    """How a volume may be used at once."""
    errors: list[FieldError] = []
    if not modes:
        errors.append(required(at, detail))
    errors += [unsupported(at, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and any(m in ACCESS_MODES and m != "ReadWriteOncePod" for m in modes):
        errors.append(forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    return errors


def claim_spec(spec: Object, at: str) -> list[FieldError]:
    """The spec of a claim, of its own or in a template."""
    errors: list[FieldError] = access_modes(f"{at}.accessModes", values(spec, "accessModes"))
    errors += label_selector(f"{at}.selector", spec.get("selector"))
    requests = sub(spec, "resources", "requests")
    if "storage" not in requests:
        errors.append(required(f"{at}.resources[storage]"))
    else:
        size = parse(requests["storage"])
        if size is not None and size.nanos <= 0:
            errors.append(invalid(f"{at}.resources[storage]", str(requests["storage"]), POSITIVE))
    errors += _class_name(at, spec, "storageClassName")
    mode = spec.get("volumeMode")
    if isinstance(mode, str) and mode not in VOLUME_MODES:
        errors.append(unsupported(f"{at}.volumeMode", mode, VOLUME_MODES))
    source, reference = dictionary(spec, "dataSource"), dictionary(spec, "dataSourceRef")
    if source is not None:
        errors += _source(f"{at}.dataSource", source)
    if reference is not None:
        errors += _reference(f"{at}.dataSourceRef", reference)
    if reference is not None and text(reference, "namespace"):
        if source is not None:
            errors.append(invalid(at, _A_PATH, "may not be specified when dataSourceRef.namespace is specified"))
    elif source is not None and reference is not None and not _alike(source, reference):
        errors.append(invalid(at, _A_PATH, "must match dataSourceRef"))
    return errors + _class_name(at, spec, "volumeAttributesClassName")


def _class_name(at: str, spec: Object, key: str) -> list[FieldError]:
    name = text(spec, key)
    return check_names(f"{at}.{key}", name, names.dns1123_subdomain) if name else []


_DEFAULT_GROUP = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"


def _alike(source: Object, reference: Object) -> bool:
    return all(source.get(k) == reference.get(k) for k in ("apiGroup", "kind", "name"))


def _source(at: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    errors += [required(f"{at}.{key}") for key in ("name", "kind") if not text(source, key)]
    group = text(source, "apiGroup")
    if not group and text(source, "kind") != "PersistentVolumeClaim":
        errors.append(invalid(at, text(source, "kind"), _DEFAULT_GROUP))
    if group:
        errors += check_names(f"{at}.apiGroup", group, names.dns1123_subdomain)
    return errors


def _reference(at: str, reference: Object) -> list[FieldError]:
    errors = _source(at, reference)
    if space := text(reference, "namespace"):
        errors += check_names(f"{at}.namespace", space, names.dns1123_label)
    return errors


def claim(obj: Object) -> list[FieldError]:
    """A PersistentVolumeClaim."""
    return claim_spec(sub(obj, "spec"), "spec")


_FIXED = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
_ATTRIBUTES = "volumeAttributesClassName"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def claim_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a PersistentVolumeClaim: once bound it may grow, and change its attributes."""
    errors = claim(new)
    after, before = dict(sub(new, "spec")), dict(sub(old, "spec"))
    now, was = _storage(after), _storage(before)
    errors += _classes(new, old, after)
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName", "")
    if text(new, "status", "phase") == "Bound":
        resources = sub(after, "resources")
        if "requests" in resources and was is not None:
            after["resources"] = {**resources, "requests": {**sub(resources, "requests"), "storage": was}}
        after[_ATTRIBUTES] = before.get(_ATTRIBUTES)
    shown, shown_before = internal_forms.volume_claim_spec(after), internal_forms.volume_claim_spec(before)
    if shown != shown_before:
        errors.append(forbidden("spec", f"{_FIXED}\n{internal_forms.difference(shown_before, shown)}"))
    errors += _resized(now, was, sub(old, "status", "capacity").get("storage"))
    errors += must_equal("volumeMode", after.get("volumeMode"), before.get("volumeMode"))
    return errors + _attributes(new, old)


def _classes(new: Object, old: Object, after: Object) -> list[FieldError]:
    """The class may come to a claim without one, or move from the annotation into its field."""
    marked, was_marked = (sub(o, "metadata", "annotations").get(_CLASS_ANNOTATION) for o in (new, old))
    name, before = after.get("storageClassName"), sub(old, "spec").get("storageClassName")
    given = name is not None and before is None
    if given and was_marked is not None and name == was_marked and marked in (None, was_marked):
        after["storageClassName"] = None
        return []
    if given and was_marked in (None, name):
        after["storageClassName"] = None
    return must_equal(f"metadata.annotations.{_CLASS_ANNOTATION}", marked or "", was_marked or "")


def _storage(spec: Object) -> Any:
    return sub(spec, "resources", "requests").get("storage")


def _resized(now: Any, was: Any, capacity: Any) -> list[FieldError]:
    new, old, held = (parse(amount if amount is not None else "0") for amount in (now, was, capacity))
    if new is None or old is None or held is None or new >= old or new > held:
        return []
    return [forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")]


def _attributes(new: Object, old: Object) -> list[FieldError]:
    """The attributes of a volume stay once they have been applied; others may take their place."""
    now, was = sub(new, "spec").get(_ATTRIBUTES), sub(old, "spec").get(_ATTRIBUTES)
    if now or now == was or sub(old, "status").get("currentVolumeAttributesClassName") is None:
        return []
    empty = "nil" if now is None else "empty string"
    detail = f"update to {empty} is forbidden when status.currentVolumeAttributesClassName is not nil"
    return [forbidden(f"spec.{_ATTRIBUTES}", detail)]


_RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def claim_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a PersistentVolumeClaim."""
    status = sub(new, "status")
    errors: list[FieldError] = []
    if not text(new, "metadata", "resourceVersion"):
        errors.append(required("resourceVersion"))
    if not values(new, "spec", "accessModes"):
        errors.append(required("Spec.accessModes"))
    for name, amount in sorted(sub(status, "capacity").items()):
        errors += basic_amount(f"status.capacity[{name}]", amount)
    at = "status.allocatedResourceStatus"
    for name, state in sorted(sub(status, "allocatedResourceStatuses").items()):
        errors += _resource_key(at, name)
        if state not in _RESIZE_STATES:
            errors.append(unsupported(at, name, _RESIZE_STATES))
    for name, amount in sorted(sub(status, "allocatedResources").items()):
        where = f"status.allocatedResources[{name}]"
        errors += _resource_key("status.allocatedResources", name) or basic_amount(where, amount)
    return errors


def basic_amount(at: str, amount: Any) -> list[FieldError]:
    """An amount from 0 on, as it is told of volumes."""
    found = parse(amount)
    whole = 0 if found is None else found.nanos // 10**9  # rounded away from 0
    return [invalid(at, whole, "must be a valid resource quantity")] if whole < 0 else []


def _resource_key(at: str, name: str) -> list[FieldError]:
    if errors := check_names(at, name, names.qualified_name):
        return errors
    return [unsupported(at, name, ("storage",))] if is_native(name) and name != "storage" else []
