"""The spec of a PersistentVolumeClaim.

Source: pkg/apis/core/validation/validation.go (ValidatePersistentVolumeClaimSpec).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import sub, text, values
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, label_selector, unsupported
from controlplane.apiserver.registry.validation.resources import parse, resource_value
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
POSITIVE = "must be greater than zero"


def access_modes(at: str, modes: list[object], detail: str = "at least 1 access mode is required") -> list[FieldError]:
    """How a volume may be used at once."""
    errors: list[FieldError] = []
    if not modes:
        errors.append(required(at, detail))
    errors += [unsupported(at, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(set(map(str, modes))) > 1:
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
        size = requests["storage"]
        errors += resource_value(f"{at}.resources[storage]", "storage", size)
        parsed = parse(size)
        if parsed is not None and parsed.nanos == 0:
            errors.append(invalid(f"{at}.resources[storage]", str(size), POSITIVE))
    for key in ("storageClassName", "volumeAttributesClassName"):
        name = spec.get(key)
        if isinstance(name, str) and name:
            errors += check_names(f"{at}.{key}", name, names.dns1123_subdomain)
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
            errors.append(
                invalid(at, f"{at}.dataSource", "may not be specified when dataSourceRef.namespace is specified")
            )
    elif source is not None and reference is not None and not _alike(source, reference):
        errors.append(invalid(at, f"{at}.dataSource", "must match dataSourceRef"))
    return errors


def _alike(source: Object, reference: Object) -> bool:
    return all(source.get(k) == reference.get(k) for k in ("apiGroup", "kind", "name"))


def _source(at: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    errors += [required(f"{at}.{key}") for key in ("name", "kind") if not text(source, key)]
    group = text(source, "apiGroup")
    if not group and text(source, "kind") != "PersistentVolumeClaim":
        errors.append(invalid(at, text(source, "kind"), ""))
    if group:
        errors += check_names(f"{at}.apiGroup", group, names.dns1123_subdomain)
    return errors


def _reference(at: str, reference: Object) -> list[FieldError]:
    errors = _source(at, reference)
    if space := text(reference, "namespace"):
        errors += check_names(f"{at}.namespace", space, names.dns1123_label)
    return errors
