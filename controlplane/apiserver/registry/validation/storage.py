"""Volumes, claims, classes, and what storage drivers publish.

Source: pkg/apis/core/validation/validation.go, pkg/apis/storage/validation/validation.go.
"""

from __future__ import annotations

import json
from typing import Any

from controlplane.apiserver.registry.objects import items, strings, sub, text, values
from controlplane.apiserver.registry.validation.claims import VOLUME_MODES, access_modes, claim_spec
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    must_equal,
    not_negative,
    qualified_key,
    repeated,
    same,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import not_negative_amount, parse
from controlplane.apiserver.registry.validation.scheduling import node_selector
from controlplane.apiserver.registry.validation.sources import (
    SHARED_SOURCES,
    Rule,
    csi_driver_name,
    local_volume,
    persistent_azure_file,
    persistent_csi,
    persistent_glusterfs,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, too_long
from machinery.api.meta import Object

RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_PERSISTENT: dict[str, Rule] = {
    **{kind: rule for kind, rule in SHARED_SOURCES.items() if kind not in ("azureFile", "glusterfs", "flocker")},
    "glusterfs": persistent_glusterfs,
    "flocker": SHARED_SOURCES["flocker"],
    "local": local_volume,
    "azureFile": persistent_azure_file,
    "csi": persistent_csi,
}


def volume(obj: Object) -> list[FieldError]:
    """A PersistentVolume."""
    return _volume_spec("spec", sub(obj, "spec"), inline=False)


def _volume_spec(at: str, spec: Object, *, inline: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    modes = values(spec, "accessModes")
    if inline:
        if modes:
            errors += access_modes(f"{at}.accessModes", modes)
    else:
        errors += access_modes(f"{at}.accessModes", modes, "")
        errors += _capacity(f"{at}.capacity", sub(spec, "capacity"))
        policy = text(spec, "persistentVolumeReclaimPolicy")
        if policy and policy not in RECLAIM_POLICIES:
            errors.append(unsupported(f"{at}.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES))
        affinity = dictionary(spec, "nodeAffinity")
        if affinity is not None:
            required_terms = dictionary(affinity, "required")
            where = f"{at}.nodeAffinity.required"
            errors += (
                [required(where, "must specify required node constraints")]
                if required_terms is None
                else node_selector(where, required_terms)
            )
    errors += _source(at, spec)
    if sub(spec, "hostPath").get("path") == "/" and text(spec, "persistentVolumeReclaimPolicy") == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{at}.persistentVolumeReclaimPolicy", detail))
    if name := text(spec, "storageClassName"):
        errors += check_names(f"{at}.storageClassName", name, names.dns1123_subdomain)
    mode = spec.get("volumeMode")
    if isinstance(mode, str) and mode not in VOLUME_MODES:
        errors.append(unsupported(f"{at}.volumeMode", mode, VOLUME_MODES))
    attributes = spec.get("volumeAttributesClassName")
    if isinstance(attributes, str):
        if not attributes:
            errors.append(required(f"{at}.volumeAttributesClassName", "an empty string is disallowed"))
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
        errors += not_negative_amount(f"{at}[{name}]", amount)
        found = parse(amount)
        if found is not None and found.nanos <= 0:
            errors.append(invalid(f"{at}[{name}]", str(amount), "must be greater than zero"))
    return errors


def _source(at: str, spec: Object) -> list[FieldError]:
    kinds = [k for k in _PERSISTENT if isinstance(spec.get(k), dict)]
    if not kinds:
        return [required(at, "must specify a volume type")]
    errors = _PERSISTENT[kinds[0]](f"{at}.{kinds[0]}", sub(spec, kinds[0]))
    return errors + [forbidden(f"{at}.{k}", "may not specify more than 1 volume type") for k in kinds[1:]]


def volume_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a PersistentVolume: where its data is stays."""
    errors = volume(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    if any(not same(_comparable(after, k), _comparable(before, k)) for k in _PERSISTENT):
        told = json.dumps({k: after[k] for k in _PERSISTENT if k in after}, separators=(",", ":"))
        detail = f"spec.persistentvolumesource is immutable after creation\n{told}"
        errors.append(forbidden("spec.persistentvolumesource", detail))
    errors += must_equal("spec.volumeMode", after.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") is not None and after.get("nodeAffinity") != before.get("nodeAffinity"):
        errors.append(
            invalid(
                "spec.nodeAffinity",
                after.get("nodeAffinity"),
                "field is immutable, except for updating from beta label to GA",
            )
        )
    return errors


def _comparable(spec: Object, kind: str) -> Any:
    """A source without the secret that drivers may be given later."""
    found = spec.get(kind)
    if kind == "csi" and isinstance(found, dict):
        return {k: v for k, v in found.items() if k not in ("controllerExpandSecretRef", "nodeExpandSecretRef")}
    return found


def claim(obj: Object) -> list[FieldError]:
    """A PersistentVolumeClaim."""
    return claim_spec(sub(obj, "spec"), "spec")


_CLAIM_FIXED = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def claim_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a PersistentVolumeClaim: once bound it may grow, and change its attributes."""
    errors = claim(new)
    after, before = dict(sub(new, "spec")), dict(sub(old, "spec"))
    if not before.get("volumeName"):
        before.pop("volumeName", None)
        after.pop("volumeName", None)
    if before.get("storageClassName") is None:
        after.pop("storageClassName", None)
    bound = text(new, "status", "phase") == "Bound"
    was, now = _storage(before), _storage(after)
    if bound:
        after["resources"] = _without_storage(after)
        before["resources"] = _without_storage(before)
    after.pop("volumeAttributesClassName", None)
    before.pop("volumeAttributesClassName", None)
    if any(not same(after.get(k), before.get(k)) for k in after.keys() | before.keys()):
        changed = sorted(k for k in after.keys() | before.keys() if not same(after.get(k), before.get(k)))
        lines = [
            f"{sign} \t{k}: {json.dumps(spec[k])}"
            for k in changed
            for sign, spec in (("-", before), ("+", after))
            if k in spec
        ]
        errors.append(forbidden("spec", "\n".join([_CLAIM_FIXED, *lines])))
    errors += _resized(now, was, sub(old, "status", "capacity").get("storage"))
    return errors + _attributes(new, old)


def _storage(spec: Object) -> Any:
    return sub(spec, "resources", "requests").get("storage")


def _without_storage(spec: Object) -> Object:
    resources = sub(spec, "resources")
    requests = {k: v for k, v in sub(resources, "requests").items() if k != "storage"}
    return {**resources, "requests": requests}


def _resized(now: Any, was: Any, capacity: Any) -> list[FieldError]:
    new, old = parse(now) if now is not None else None, parse(was) if was is not None else None
    held = parse(capacity) if capacity is not None else None
    if new is None or old is None or new >= old:
        return []
    at = "spec.resources.requests.storage"
    if held is None or new <= held:
        return [forbidden(at, "field can not be less than status.capacity")]
    return []


def _attributes(new: Object, old: Object) -> list[FieldError]:
    key = "volumeAttributesClassName"
    now, was = sub(new, "spec").get(key), sub(old, "spec").get(key)
    at = f"spec.{key}"
    if now == was:
        return []
    if was is not None and now is None:
        return [forbidden(at, "update from non-nil value to nil is forbidden")]
    if was is not None and now == "":
        return [forbidden(at, "update from non-nil value to an empty string is forbidden")]
    return []


def claim_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a PersistentVolumeClaim."""
    status = sub(new, "status")
    errors: list[FieldError] = []
    if not text(new, "metadata", "resourceVersion"):
        errors.append(required("metadata.resourceVersion"))
    if not values(new, "spec", "accessModes"):
        errors.append(required("spec.accessModes"))
    for name, amount in sorted(sub(status, "capacity").items()):
        errors += not_negative_amount(f"status.capacity[{name}]", amount)
    return errors


def volume_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a PersistentVolume."""
    return [] if text(new, "metadata", "resourceVersion") else [required("metadata.resourceVersion")]


_MOST_PARAMETERS, _MOST_PARAMETER_BYTES = 512, 256 * 1024


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


def storage_class(obj: Object) -> list[FieldError]:
    """A StorageClass."""
    name = text(obj, "provisioner")
    errors: list[FieldError] = []
    if name:
        errors += [invalid("provisioner", name, message) for message in names.qualified_name(name.lower())]
    else:
        errors.append(required("provisioner"))
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
        if meaning in seen:
            errors.append(repeated(where, ""))
        seen.append(meaning)
    return errors


def _fixed(new: Object, old: Object, *keys: str) -> list[FieldError]:
    return [forbidden(key, f"updates to {key} are forbidden.") for key in keys if not same(new.get(key), old.get(key))]


def storage_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a StorageClass."""
    errors = _fixed(new, old, "parameters", "provisioner", "reclaimPolicy")
    return errors + must_equal("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


def attachment(obj: Object) -> list[FieldError]:
    """A VolumeAttachment."""
    spec, source = sub(obj, "spec"), sub(obj, "spec", "source")
    attacher = text(spec, "attacher")
    errors: list[FieldError] = []
    if attacher:
        errors += [invalid("spec.attacher", attacher, m) for m in names.qualified_name(attacher.lower())]
    else:
        errors.append(required("spec.attacher"))
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
    return errors + check_names("spec.nodeName", text(spec, "nodeName"), names.dns1123_subdomain)


def attachment_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a VolumeAttachment: what is attached where stays."""
    errors = attachment(new)
    if sub(new, "spec") != sub(old, "spec"):
        errors.append(invalid("spec", sub(new, "spec"), "field is immutable"))
    return errors


def attachment_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a VolumeAttachment."""
    status = sub(new, "status")
    errors = _parameters("status.attachmentMetadata", strings(status, "attachmentMetadata"), may_be_empty=True)
    for key in ("attachError", "detachError"):
        found = sub(status, key)
        if len(text(found, "message")) > 1024 * 1024:
            errors.append(too_long(f"status.{key}.message", 1024 * 1024))
        errors += not_negative(f"status.{key}.errorCode", found.get("errorCode"))
    return errors


def attributes_class(obj: Object) -> list[FieldError]:
    """A VolumeAttributesClass."""
    errors = csi_driver_name("driverName", text(obj, "driverName"))
    return errors + _parameters("parameters", strings(obj, "parameters"), may_be_empty=False)


def attributes_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a VolumeAttributesClass."""
    return _fixed(new, old, "driverName", "parameters")
