"""Claims of devices, their templates, and classes of devices.

Source: pkg/apis/resource/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.apiserver.registry.objects import items, number, strings, sub, text, values
from controlplane.apiserver.registry.validation import device_parts as parts
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.conditions import conditions
from controlplane.apiserver.registry.validation.device_parts import several
from controlplane.apiserver.registry.validation.expressions import wrong_selector
from controlplane.apiserver.registry.validation.parts import (
    IMMUTABLE,
    check_names,
    dictionary,
    label_map,
    must_equal,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import is_extended
from controlplane.apiserver.registry.validation.scheduling import node_selector
from controlplane.apiserver.registry.validation.sources import csi_driver_name
from machinery.api import names, rawtext
from machinery.api.fielderror import FieldError, forbidden, invalid, required, too_long, too_many
from machinery.api.meta import Object

_MOST: Final = 32  # requests, constraints, configurations, selectors
_MOST_ALTERNATIVES: Final = 8
_MOST_CONSUMERS: Final = 256
_LONGEST_EXPRESSION: Final = 10 * 1024
_LONGEST_PARAMETERS: Final = 10 * 1024
_LONGEST_ID: Final = 32
_LONGEST_POOL: Final = 253
_MOST_CONDITIONS: Final = 8
_MODES: Final = ("All", "ExactCount")
_OMITTED: Final = "<value omitted>"
_REFERENCE: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


def _named(at: str, name: str) -> list[FieldError]:
    return check_names(at, name, names.dns1123_label) if name else [required(at)]


def claim(obj: Object) -> list[FieldError]:
    """A new ResourceClaim."""
    return _claim_spec("spec", sub(obj, "spec"))


def claim_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ResourceClaim: what it asks for stays."""
    return claim(new) + _spec_stays(new, old, internal_forms.resource_claim_spec)


def _spec_stays(new: Object, old: Object, form: Callable[[Any], Any]) -> list[FieldError]:
    spec = sub(new, "spec")
    return [] if spec == sub(old, "spec") else [invalid("spec", form(spec), IMMUTABLE)]


def claim_template(obj: Object) -> list[FieldError]:
    """A new ResourceClaimTemplate."""
    errors = label_map("spec.metadata.labels", strings(obj, "spec", "metadata", "labels"))
    for key in strings(obj, "spec", "metadata", "annotations"):
        errors += check_names("spec.metadata.annotations", key, lambda name: names.qualified_name(name.lower()))
    return errors + _claim_spec("spec.spec", sub(obj, "spec", "spec"))


def claim_template_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ResourceClaimTemplate: what it asks for stays."""
    return claim_template(new) + _spec_stays(new, old, internal_forms.resource_claim_template_spec)


def _claim_spec(at: str, spec: Object) -> list[FieldError]:
    devices, where = sub(spec, "devices"), f"{at}.devices"
    known = _request_names(devices)
    errors = several(
        f"{where}.requests", items(devices, "requests"), _MOST, _request, lambda request: text(request, "name")
    )
    errors += several(
        f"{where}.constraints", items(devices, "constraints"), _MOST, lambda at, found: _constraint(at, found, known)
    )
    return errors + several(
        f"{where}.config", items(devices, "config"), _MOST, lambda at, found: _claim_config(at, found, known)
    )


def _request_names(devices: Object) -> frozenset[str]:
    """Names of requests, and of their alternatives as `request/alternative`."""
    found = set()
    for request in items(devices, "requests"):
        name = text(request, "name")
        found.add(name)
        found |= {f"{name}/{text(inner, 'name')}" for inner in items(request, "firstAvailable")}
    return frozenset(found)


def _request(at: str, request: Object) -> list[FieldError]:
    errors = _named(f"{at}.name", text(request, "name"))
    exactly, alternatives = dictionary(request, "exactly"), items(request, "firstAvailable")
    if exactly is not None and alternatives:
        told = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        errors.append(invalid(at, None, told))
    elif exactly is not None:
        errors += _device_request(f"{at}.exactly", exactly)
    elif alternatives:
        errors += several(
            f"{at}.firstAvailable", alternatives, _MOST_ALTERNATIVES, _alternative, lambda inner: text(inner, "name")
        )
    else:
        errors.append(required(at, "exactly one of `exactly` or `firstAvailable` is required"))
    return errors


def _alternative(at: str, request: Object) -> list[FieldError]:
    return _named(f"{at}.name", text(request, "name")) + _device_request(at, request)


def _device_request(at: str, request: Object) -> list[FieldError]:
    name = text(request, "deviceClassName")
    errors = check_names(f"{at}.deviceClassName", name, names.dns1123_subdomain) if name else []
    if not name:
        errors.append(required(f"{at}.deviceClassName"))
    errors += several(f"{at}.selectors", items(request, "selectors"), _MOST, _selector)
    mode, count = text(request, "allocationMode"), number(request, "count")
    if mode not in _MODES:
        errors.append(unsupported(f"{at}.allocationMode", mode, _MODES))
    elif mode == "All" and count:
        told = f"must not be specified when allocationMode is '{mode}'"
        errors.append(invalid(f"{at}.count", count, told))
    elif mode == "ExactCount" and count <= 0:
        errors.append(invalid(f"{at}.count", count, "must be greater than zero"))
    return errors + several(f"{at}.tolerations", items(request, "tolerations"), -1, _toleration)


def _toleration(at: str, toleration: Object) -> list[FieldError]:
    key, operator, effect = (text(toleration, name) for name in ("key", "operator", "effect"))
    errors = check_names(f"{at}.key", key, names.qualified_name) if key else []
    if operator == "Exists" and text(toleration, "value"):
        errors.append(invalid(f"{at}.value", text(toleration, "value"), "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors += check_names(f"{at}.value", text(toleration, "value"), names.label_value)
    elif not operator:
        errors.append(required(f"{at}.operator"))
    elif operator not in ("Equal", "Exists"):
        errors.append(unsupported(f"{at}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in ("NoExecute", "NoSchedule", "None"):
        errors.append(unsupported(f"{at}.effect", effect, ("NoExecute", "NoSchedule", "None")))
    return errors


def _selector(at: str, selector: Object) -> list[FieldError]:
    if dictionary(selector, "cel") is None:
        return [required(f"{at}.cel")]
    where, expression = f"{at}.cel.expression", text(selector, "cel", "expression")
    if len(expression.encode()) > _LONGEST_EXPRESSION:
        return [too_long(where, _LONGEST_EXPRESSION)]
    return wrong_selector(where, expression)


def _constraint(at: str, constraint: Object, known: frozenset[str]) -> list[FieldError]:
    errors = _references(f"{at}.requests", constraint, known)
    for key in ("matchAttribute", "distinctAttribute"):
        if constraint.get(key) is not None:
            return errors + fully_qualified(f"{at}.{key}", text(constraint, key))
    told = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(at, told)]


def _references(at: str, holder: Object, known: frozenset[str]) -> list[FieldError]:
    found = [name for name in values(holder, "requests") if isinstance(name, str)]
    return several(at, found, _MOST, lambda where, name: reference(where, name, known), lambda name: str(name))


def reference(at: str, name: str, known: frozenset[str]) -> list[FieldError]:
    """The name of a request of a claim."""
    segments = name.split("/")
    if len(segments) > 2:
        return [invalid(at, name, _REFERENCE)]
    errors = [error for segment in segments for error in _named(at, segment)]
    return errors if name in known else [*errors, invalid(at, name, _REFERENCE)]


def qualified(at: str, name: str) -> list[FieldError]:
    """The name of an attribute or capacity: an identifier, with or without a domain."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        return _identifier(at, name)
    if "/" in identifier:
        return [invalid(at, name, "must not contain more than one slash")]
    errors = csi_driver_name(at, domain) if domain else [invalid(at, "", "the domain must not be empty")]
    return errors + (_identifier(at, identifier) if identifier else [invalid(at, "", "the name must not be empty")])


def _identifier(at: str, name: str) -> list[FieldError]:
    errors = [too_long(at, _LONGEST_ID)] if len(name) > _LONGEST_ID else []
    return errors + check_names(at, name, names.c_identifier)


def fully_qualified(at: str, name: str) -> list[FieldError]:
    """The name of an attribute with its domain."""
    told = "a fully qualified name must be a domain and a name separated by a slash"
    return qualified(at, name) + ([] if "/" in name else [invalid(at, name, told)])


def _claim_config(at: str, config: Object, known: frozenset[str]) -> list[FieldError]:
    return _references(f"{at}.requests", config, known) + _configuration(at, config)


def _configuration(at: str, config: Object) -> list[FieldError]:
    opaque = dictionary(config, "opaque")
    if opaque is None:
        return [required(f"{at}.opaque")]
    where = f"{at}.opaque"
    return csi_driver_name(f"{where}.driver", text(opaque, "driver")) + raw_object(
        f"{where}.parameters", opaque.get("parameters")
    )


def raw_object(at: str, value: Any) -> list[FieldError]:
    """An object that only a driver understands."""
    if value is None:
        return [required(at)]
    if len(rawtext.dumps(value)) > _LONGEST_PARAMETERS:
        return [too_long(at, _LONGEST_PARAMETERS)]
    return [] if isinstance(value, dict) else [invalid(at, _OMITTED, "must be a valid JSON object")]


def device_class(obj: Object) -> list[FieldError]:
    """A new DeviceClass."""
    spec = sub(obj, "spec")
    errors = several("spec.selectors", items(spec, "selectors"), _MOST, _selector)
    errors += several("spec.config", items(spec, "config"), _MOST, _configuration)
    name = spec.get("extendedResourceName")
    if isinstance(name, str) and not is_extended(name):
        errors.append(invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
    return errors


def device_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a DeviceClass: upstream looks at it as at a new one first, and then once more."""
    return device_class(new) * 2


def claim_status(new: Object, old: Object) -> list[FieldError]:
    """What the scheduler, drivers and the controller report of a ResourceClaim."""
    status, before = sub(new, "status"), sub(old, "status")
    allocation, was = dictionary(status, "allocation"), dictionary(before, "allocation")
    errors = several(
        "status.reservedFor", items(status, "reservedFor"), _MOST_CONSUMERS, _consumer, lambda user: text(user, "uid")
    )
    allocated = {_device_id(result) for result in items(allocation, "devices", "results")}
    errors += several(
        "status.devices",
        items(status, "devices"),
        -1,
        lambda at, device: _reported(at, device, known=_device_id(device) in allocated),
        lambda device: "/".join(_device_id(device)),
    )
    errors += _reservations(new, old, allocated=allocation is not None)
    if allocation is not None and was is not None:
        errors += must_equal("status.allocation", allocation, was)
    elif allocation is not None:
        errors += _allocation("status.allocation", allocation, _request_names(sub(new, "spec", "devices")))
    return errors


def _reservations(new: Object, old: Object, *, allocated: bool) -> list[FieldError]:
    users = items(new, "status", "reservedFor")
    if users and not allocated:
        return [forbidden("status.reservedFor", "may not be specified when `allocated` is not set")]
    added = [user for user in users if user not in items(old, "status", "reservedFor")]
    if added and text(new, "metadata", "deletionTimestamp"):
        told = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        return [forbidden("status.reservedFor", told)]
    return []


def _device_id(device: Object) -> tuple[str, ...]:
    parts = [text(device, key) for key in ("driver", "pool", "device")]
    return (*parts, text(device, "shareID")) if text(device, "shareID") else tuple(parts)


def _consumer(at: str, user: Object) -> list[FieldError]:
    return [required(f"{at}.{key}") for key in ("resource", "name", "uid") if not text(user, key)]


def _reported(at: str, device: Object, *, known: bool) -> list[FieldError]:
    errors = csi_driver_name(f"{at}.driver", text(device, "driver")) + pool_name(f"{at}.pool", text(device, "pool"))
    errors += _named(f"{at}.device", text(device, "device")) + parts.share_id(f"{at}.shareID", device.get("shareID"))
    if not known:
        told = "must be an allocated device in the claim"
        errors.append(invalid(at, internal_forms.device_id(device), told))
    found = items(device, "conditions")
    if len(found) > _MOST_CONDITIONS:
        errors.append(too_many(f"{at}.conditions", len(found), _MOST_CONDITIONS))
    errors += conditions(f"{at}.conditions", found)
    if (data := device.get("data")) is not None:
        errors += raw_object(f"{at}.data", data)
    return errors + parts.network_data(f"{at}.networkData", dictionary(device, "networkData"))


def pool_name(at: str, name: str) -> list[FieldError]:
    """The name of a pool: subdomains with slashes between them."""
    if not name:
        return [required(at)]
    errors = [too_long(at, _LONGEST_POOL)] if len(name) > _LONGEST_POOL else []
    return errors + [error for part in name.split("/") for error in check_names(at, part, names.dns1123_subdomain)]


def _allocation(at: str, allocation: Object, known: frozenset[str]) -> list[FieldError]:
    def result(where: str, found: Object) -> list[FieldError]:
        errors = reference(f"{where}.request", text(found, "request"), known)
        errors += csi_driver_name(f"{where}.driver", text(found, "driver"))
        errors += pool_name(f"{where}.pool", text(found, "pool"))
        errors += _named(f"{where}.device", text(found, "device")) + parts.binding(where, found)
        return errors + parts.share_id(f"{where}.shareID", found.get("shareID"))

    def config(where: str, found: Object) -> list[FieldError]:
        source = text(found, "source")
        errors = [] if source else [required(f"{where}.source")]
        if source not in ("", "FromClaim", "FromClass"):
            errors.append(unsupported(f"{where}.source", source, ("FromClaim", "FromClass")))
        return errors + _references(f"{where}.requests", found, known) + _configuration(where, found)

    devices = sub(allocation, "devices")
    errors = several(f"{at}.devices.results", items(devices, "results"), _MOST, result)
    errors += several(f"{at}.devices.config", items(devices, "config"), 2 * _MOST, config)
    selector = dictionary(allocation, "nodeSelector")
    return errors if selector is None else errors + node_selector(f"{at}.nodeSelector", selector)
