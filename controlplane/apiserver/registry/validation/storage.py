"""Volumes, claims, classes, and what storage drivers publish.

Source: pkg/apis/core/validation/validation.go, pkg/apis/storage/validation/validation.go.
"""

from __future__ import annotations

import posixpath
from typing import Any

from controlplane.apiserver.registry.objects import integer, items, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.claims import VOLUME_MODES, access_modes, basic_amount
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    must_equal,
    qualified_key,
    repeated,
    same,
    unsupported,
)
from controlplane.apiserver.registry.validation.persistent_sources import PERSISTENT_SOURCES, persistent_source
from controlplane.apiserver.registry.validation.resources import parse
from controlplane.apiserver.registry.validation.scheduling import node_selector
from controlplane.apiserver.registry.validation.sources import ISCSI_TOO_LONG, csi_driver_name, long_iscsi
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, too_long
from machinery.api.meta import Object, name_of

RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")


def volume(obj: Object) -> list[FieldError]:
    """A PersistentVolume."""
    spec = sub(obj, "spec")
    errors = _volume_spec("spec", spec, inline=False)
    if isinstance(spec.get("iscsi"), dict) and long_iscsi(name_of(obj), spec["iscsi"]):
        portal = text(spec, "iscsi", "targetPortal")
        errors.append(invalid("spec.iscsi.targetportal", portal, ISCSI_TOO_LONG))
    return errors


def _volume_spec(at: str, spec: Object, *, inline: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    modes = access_modes(f"{at}.accessModes", values(spec, "accessModes"), "")
    policy, name, mode = (
        text(spec, "persistentVolumeReclaimPolicy"),
        text(spec, "storageClassName"),
        spec.get("volumeMode"),
    )
    affinity = dictionary(spec, "nodeAffinity")
    if inline:
        errors += [forbidden(f"{at}.{key}", _NOT_INLINE) for key in ("claimRef", "capacity") if spec.get(key)]
        if spec.get("csi") is None:
            errors.append(required(f"{at}.csi", "has to be specified in the context of inline volumes"))
        errors += modes
        if policy and policy != "Retain":
            detail = "may only be Retain in the context of inline volumes"
            errors.append(forbidden(f"{at}.persistentVolumeReclaimPolicy", detail))
        if affinity is not None:
            errors.append(forbidden(f"{at}.nodeAffinity", _NOT_INLINE))
    else:
        errors += modes + _capacity(f"{at}.capacity", sub(spec, "capacity"))
        if policy and policy not in RECLAIM_POLICIES:
            errors.append(unsupported(f"{at}.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES))
        if affinity is not None:
            errors += _node_affinity(f"{at}.nodeAffinity.required", dictionary(affinity, "required"))
    errors += persistent_source(at, spec)
    if posixpath.normpath(text(spec, "hostPath", "path") or ".") in ("/", "//") and policy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{at}.persistentVolumeReclaimPolicy", detail))
    if name and inline:
        errors.append(forbidden(f"{at}.storageClassName", _NOT_INLINE))
    elif name:
        errors += check_names(f"{at}.storageClassName", name, names.dns1123_subdomain)
    if isinstance(mode, str) and inline and mode != "Filesystem":
        detail = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        errors.append(forbidden(f"{at}.volumeMode", detail))
    elif isinstance(mode, str) and not inline and mode not in VOLUME_MODES:
        errors.append(unsupported(f"{at}.volumeMode", mode, VOLUME_MODES))
    return errors + _volume_attributes(at, spec)


_NOT_INLINE = "may not be specified in the context of inline volumes"


def _node_affinity(at: str, terms: Object | None) -> list[FieldError]:
    return [required(at, "must specify required node constraints")] if terms is None else node_selector(at, terms)


def _volume_attributes(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    attributes = spec.get("volumeAttributesClassName")
    if isinstance(attributes, str):
        if not attributes:
            errors.append(required(f"{at}.volumeAttributesClassName", "an empty string is disallowed"))
        else:
            errors += check_names(f"{at}.volumeAttributesClassName", attributes, names.dns1123_subdomain)
        if spec.get("csi") is None:
            errors.append(required(f"{at}.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def _capacity(at: str, capacity: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if not capacity:
        errors.append(required(at))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(unsupported(at, dict(sorted(capacity.items())) or None, ("storage",)))
    for name, amount in sorted(capacity.items()):
        errors += basic_amount(f"{at}[{name}]", amount)
        found = parse(amount)
        if found is not None and found.nanos <= 0:
            errors.append(invalid(f"{at}[{name}]", str(amount), "must be greater than zero"))
    return errors


def volume_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a PersistentVolume: where its data is stays."""
    errors = volume(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    after_source, before_source = _sources(after), _sources(before)
    added = sub(after_source, "csi").get("controllerExpandSecretRef") is not None
    if added and before.get("csi") is not None and sub(before_source, "csi").get("controllerExpandSecretRef") is None:
        csi = {k: v for k, v in sub(after_source, "csi").items() if k != "controllerExpandSecretRef"}
        after_source = {**after_source, "csi": csi}
    was, now = internal_forms.volume_source(before_source), internal_forms.volume_source(after_source)
    if was != now:
        told = f"spec.persistentvolumesource is immutable after creation\n{internal_forms.difference(was, now)}"
        errors.append(forbidden("spec.persistentvolumesource", told))
    errors += must_equal("volumeMode", after.get("volumeMode"), before.get("volumeMode"))
    affinity = after.get("nodeAffinity")
    if before.get("nodeAffinity") is not None and not _same_nodes(affinity, before["nodeAffinity"]):
        detail = "field is immutable, except for updating from beta label to GA"
        errors.append(invalid("nodeAffinity", internal_forms.volume_affinity(affinity), detail))
    key = "volumeAttributesClassName"
    if before.get(key) is not None and after.get(key) is None:
        errors.append(forbidden(f"spec.{key}", "update from non-nil value to nil is forbidden"))
    return errors


_STABLE = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def _same_nodes(new: Any, old: Any) -> bool:
    """Whether two affinities name the same nodes, be it that labels have their stable names now."""
    if isinstance(new, dict) and isinstance(old, dict):
        if "key" in old and _STABLE.get(old["key"]) == new.get("key"):
            old = {**old, "key": new["key"]}
        return new.keys() == old.keys() and all(_same_nodes(new[k], old[k]) for k in new)
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(_same_nodes, new, old))
    return bool(new == old)


def _sources(spec: Object) -> Object:
    return {kind: spec[kind] for kind in PERSISTENT_SOURCES if kind in spec}


def volume_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a PersistentVolume."""
    return [] if text(new, "metadata", "resourceVersion") else [required("resourceVersion")]


_MOST_PARAMETERS, _MOST_PARAMETER_BYTES = 512, 256 * 1024
_MOST_METADATA, _LONGEST_MESSAGE = 256 * 1024, 1024


def _parameters(at: str, found: dict[str, str], *, may_be_empty: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(found) > _MOST_PARAMETERS:
        return [too_long(at, _MOST_PARAMETERS)]
    errors += [invalid(at, key, "field can not be empty.") for key in found if not key]
    size = sum(len(k) + len(v) for k, v in found.items())
    if size > _MOST_PARAMETER_BYTES:
        errors.append(too_long(at, _MOST_PARAMETER_BYTES))
    if not found and not may_be_empty:
        errors.append(required(at, "must contain at least one key/value pair"))
    return errors


def _provisioner(at: str, name: str) -> list[FieldError]:
    return check_names(at, name.lower(), names.qualified_name) if name else [required(at)]


def storage_class(obj: Object) -> list[FieldError]:
    """A StorageClass."""
    errors = _provisioner("provisioner", text(obj, "provisioner"))
    errors += _parameters("parameters", strings(obj, "parameters"), may_be_empty=True)
    policy = obj.get("reclaimPolicy")
    if isinstance(policy, str) and policy and policy not in ("Delete", "Retain"):
        errors.append(unsupported("reclaimPolicy", policy, ("Delete", "Retain")))
    mode, allowed = obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    elif mode not in allowed:
        errors.append(unsupported("volumeBindingMode", mode, allowed))
    return errors + _topologies("allowedTopologies", items(obj, "allowedTopologies"))


def _topologies(at: str, terms: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: list[dict[str, frozenset[str]]] = []
    for index, term in enumerate(terms):
        where = f"{at}[{index}].matchLabelExpressions"
        meaning: dict[str, frozenset[str]] = {}
        for position, expression in enumerate(items(term, "matchLabelExpressions")):
            here = f"{where}[{position}]"
            key = text(expression, "key")
            wanted = [v for v in values(expression, "values") if isinstance(v, str)]
            if not wanted:
                errors.append(required(f"{here}.values"))
            errors += [repeated(f"{here}.values[{i}]", v) for i, v in enumerate(wanted) if v in wanted[:i]]
            errors += qualified_key(f"{here}.key", key)
            if key in meaning:
                errors.append(repeated(f"{here}.key", key))
            meaning[key] = frozenset(wanted)
        # Upstream compares with as many empty terms as there are terms, and with those before.
        alike = seen.count(meaning) + (0 if meaning else len(terms))
        errors += [repeated(where, "")] * alike
        seen.append(meaning)
    return errors


def _fixed(new: Object, old: Object, *keys: str) -> list[FieldError]:
    return [forbidden(key, f"updates to {key} are forbidden.") for key in keys if not same(new.get(key), old.get(key))]


def storage_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a StorageClass."""
    errors = storage_class(new) + _fixed(new, old, "parameters", "provisioner", "reclaimPolicy")
    return errors + must_equal("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


def attachment(obj: Object) -> list[FieldError]:
    """A new VolumeAttachment."""
    spec = sub(obj, "spec")
    errors = _attachment(obj)
    if attacher := text(spec, "attacher"):
        errors += csi_driver_name("spec.attacher", attacher)
    name = sub(spec, "source").get("persistentVolumeName")
    if isinstance(name, str):
        errors += check_names("spec.source.persistentVolumeName", name, names.dns1123_subdomain)
    return errors


def _attachment(obj: Object) -> list[FieldError]:
    spec, source = sub(obj, "spec"), sub(obj, "spec", "source")
    errors = [] if text(spec, "attacher") else [required("spec.attacher")]
    inline, name = dictionary(source, "inlineVolumeSpec"), source.get("persistentVolumeName")
    detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        errors.append(required("spec.source", detail))
    elif inline is not None and name is not None:
        errors.append(forbidden("spec.source", detail))
    elif name == "":
        errors.append(required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"))
    elif inline is not None:
        errors += _volume_spec("spec.source.inlineVolumeSpec", inline, inline=True)
    errors += check_names("spec.nodeName", text(spec, "nodeName"), names.dns1123_subdomain)
    return errors + _attachment_status(sub(obj, "status"))


def attachment_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a VolumeAttachment: what is attached where stays; upstream looks at all of it twice."""
    errors = _attachment(new) * 2
    if sub(new, "spec") != sub(old, "spec"):
        errors.append(invalid("spec", internal_forms.attachment_spec(sub(new, "spec")), "field is immutable"))
    return errors


def _attachment_status(status: Object) -> list[FieldError]:
    size = sum(len(k.encode()) + len(v.encode()) for k, v in strings(status, "attachmentMetadata").items())
    errors = [too_long("status.attachmentMetadata", _MOST_METADATA)] if size > _MOST_METADATA else []
    for key in ("attachError", "detachError"):
        found = sub(status, key)
        if len(text(found, "message").encode()) > _LONGEST_MESSAGE:
            errors.append(too_long(f"status.{key}.message", _MOST_METADATA))  # upstream tells the other limit
        code = integer(found, "errorCode")
        if code is not None and code < 0:
            errors.append(invalid(f"status.{key}.errorCode", code, f"must be between 0 and {2**31 - 1}, inclusive"))
    return errors


def attributes_class(obj: Object) -> list[FieldError]:
    """A VolumeAttributesClass."""
    errors = _provisioner("driverName", text(obj, "driverName"))
    return errors + _parameters("parameters", strings(obj, "parameters"), may_be_empty=False)


def attributes_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a VolumeAttributesClass: looked at twice, as a VolumeAttachment."""
    errors = attributes_class(new)
    return errors + _fixed(new, old, "driverName", "parameters") + errors
