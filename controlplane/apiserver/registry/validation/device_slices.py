"""ResourceSlices: the devices that a driver publishes.

Source: pkg/apis/resource/validation/validation.go (ValidateResourceSlice).
"""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.apiserver.registry.objects import flag, items, number, sub, text
from controlplane.apiserver.registry.validation.device_parts import binding, request_policy, several, shortened
from controlplane.apiserver.registry.validation.devices import pool_name, qualified
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, must_equal, unsupported
from controlplane.apiserver.registry.validation.scheduling import node_selector
from controlplane.apiserver.registry.validation.sources import csi_driver_name
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, too_long, too_many
from machinery.api.meta import Object

_MOST_DEVICES: Final = 128
_MOST_ELABORATE_DEVICES: Final = 64
_MOST_COUNTER_SETS: Final = 8
_MOST_ATTRIBUTES: Final = 32
_MOST_TAINTS: Final = 16
_MOST_CONSUMED: Final = 2
_MOST_COUNTERS: Final = 32
_LONGEST_KEY: Final = 63 + 1 + 32
_LONGEST_VALUE: Final = 64
_KINDS: Final = ("bool", "int", "string", "version", "bools", "ints", "strings", "versions")
_SELECTED: Final = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_OF = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_OF_DEVICE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


def resource_slice(obj: Object) -> list[FieldError]:
    """A new ResourceSlice."""
    return _spec(sub(obj, "spec"), None)


def resource_slice_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ResourceSlice: it stays with its driver, pool and node."""
    return _spec(sub(new, "spec"), sub(old, "spec"))


def _spec(spec: Object, old: Object | None) -> list[FieldError]:
    errors = csi_driver_name("spec.driver", text(spec, "driver")) + _pool("spec.pool", sub(spec, "pool"))
    if old is not None:
        errors += must_equal("spec.pool.name", text(spec, "pool", "name"), text(old, "pool", "name"))
        errors += must_equal("spec.driver", text(spec, "driver"), text(old, "driver"))
        errors += must_equal("spec.nodeName", spec.get("nodeName"), old.get("nodeName"))
    errors += _nodes("spec", spec)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        errors.append(invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    devices = items(spec, "devices")
    before = {text(device, "name"): device for device in reversed(items(old, "devices"))}
    elaborate = any(items(d, "taints") or items(d, "consumesCounters") or _has_lists(d) for d in devices)
    errors += several(
        "spec.devices",
        devices,
        _MOST_ELABORATE_DEVICES if elaborate else _MOST_DEVICES,
        lambda at, device: _device(
            at, device, before.get(text(device, "name")), selected=flag(spec, "perDeviceNodeSelection")
        ),
        lambda device: text(device, "name"),
    )
    return errors + several(
        "spec.sharedCounters",
        items(spec, "sharedCounters"),
        _MOST_COUNTER_SETS,
        lambda at, counters: _counters(at, counters, "name"),
        lambda counters: text(counters, "name"),
    )


def _pool(at: str, pool: Object) -> list[FieldError]:
    errors = pool_name(f"{at}.name", text(pool, "name"))
    count, generation = number(pool, "resourceSliceCount"), number(pool, "generation")
    if count <= 0:
        errors.append(invalid(f"{at}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        errors.append(invalid(f"{at}.generation", generation, "must be greater than or equal to zero"))
    return errors


def _nodes(at: str, spec: Object) -> list[FieldError]:
    """Exactly one way to tell which nodes have the devices."""
    errors: list[FieldError] = []
    name, selector = spec.get("nodeName"), dictionary(spec, "nodeSelector")
    if name == "":
        errors.append(invalid(f"{at}.nodeName", name, "must be either unset or set to a non-empty string"))
    elif isinstance(name, str):
        errors += check_names(f"{at}.nodeName", name, names.dns1123_subdomain)
    if selector is not None:
        errors += node_selector(f"{at}.nodeSelector", selector)
        terms = items(selector, "nodeSelectorTerms")
        if len(terms) != 1:
            told = "must have exactly one node selector term"
            errors.append(invalid(f"{at}.nodeSelector.nodeSelectorTerms", terms, told))
    for key in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(key) is False:
            errors.append(invalid(f"{at}.{key}", False, "must be either unset or set to true"))
    given = [f"`{key}`" for key in _SELECTED if spec.get(key)]
    if not given:
        errors.append(required(at, _ONE_OF))
    elif len(given) > 1:
        errors.append(invalid(at, "{" + ", ".join(given) + "}", f"{_ONE_OF}, but multiple fields are set"))
    return errors


def _has_lists(device: Object) -> bool:
    return any(isinstance(value, list) for found in sub(device, "attributes").values() for value in found.values())


def _device(at: str, device: Object, old: Object | None, *, selected: bool) -> list[FieldError]:
    name = text(device, "name")
    errors = check_names(f"{at}.name", name, names.dns1123_label) if name else [required(f"{at}.name")]
    attributes, capacity = sub(device, "attributes"), sub(device, "capacity")
    count = len(attributes) + len(capacity)
    if count > _MOST_ATTRIBUTES:
        told = f"the total number of attributes and capacities must not exceed {_MOST_ATTRIBUTES}"
        errors.append(invalid(at, count, told))
    for key, found in sorted(attributes.items()):
        where = f"{at}.attributes[{shortened(key, _LONGEST_KEY)}]"
        errors += qualified(where, key) + _attribute(where, found)
    for key, found in sorted(capacity.items()):
        where = f"{at}.capacity[{shortened(key, _LONGEST_KEY)}]"
        errors += qualified(where, key)
        if found.get("requestPolicy") is not None:
            if flag(device, "allowMultipleAllocations"):
                errors += request_policy(f"{where}.requestPolicy", found)
            else:
                errors.append(forbidden(f"{where}.requestPolicy", "allowMultipleAllocations must be true"))
    if old is None or items(old, "taints") != items(device, "taints"):
        errors += several(f"{at}.taints", items(device, "taints"), _MOST_TAINTS, _taint)
    errors += several(
        f"{at}.consumesCounters",
        items(device, "consumesCounters"),
        _MOST_CONSUMED,
        lambda where, consumed: _counters(where, consumed, "counterSet"),
        lambda consumed: text(consumed, "counterSet"),
    )
    return errors + _device_nodes(at, device, selected=selected) + binding(at, device)


def _device_nodes(at: str, device: Object, *, selected: bool) -> list[FieldError]:
    given = [key for key in ("nodeName", "nodeSelector", "allNodes") if device.get(key) is not None]
    if not selected:
        told = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in "
            "the ResourceSlice spec"
        )
        return [invalid(at, None, told)] if given else []
    errors: list[FieldError] = []
    if device.get("nodeName") == "":
        errors.append(invalid(f"{at}.nodeName", "", "must not be empty"))
    elif "nodeName" in given:
        errors += check_names(f"{at}.nodeName", text(device, "nodeName"), names.dns1123_subdomain)
    if "nodeSelector" in given:
        errors += node_selector(f"{at}.nodeSelector", sub(device, "nodeSelector"))
    if device.get("allNodes") is False:
        errors.append(invalid(f"{at}.allNodes", False, "must be either unset or set to true"))
    used = [f"`{key}`" for key in given if device.get(key)]
    if not used:
        errors.append(required(at, _ONE_OF_DEVICE))
    elif len(used) > 1:
        errors.append(invalid(at, "{" + ", ".join(used) + "}", _ONE_OF_DEVICE))
    return errors


def _attribute(at: str, attribute: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [key for key in _KINDS if attribute.get(key) is not None]
    for key in given:
        value = attribute[key]
        if key.endswith("s") and not value:
            errors.append(invalid(f"{at}.{key}", value, "must not be empty if specified"))
        found = (
            [(f"{at}.{key}[{i}]", v) for i, v in enumerate(value)] if key.endswith("s") else [(f"{at}.{key}", value)]
        )
        for where, item in found:
            errors += _attribute_value(where, item, version=key.startswith("version"))
    if len(given) != 1:
        errors.append(invalid(at, attribute if given else "", "exactly one value must be specified"))
    return errors


def _attribute_value(at: str, value: Any, *, version: bool) -> list[FieldError]:
    if not isinstance(value, str):
        return []
    errors: list[FieldError] = []
    if version and not _SEMVER.fullmatch(value):
        errors.append(invalid(at, value, "must be a string compatible with semver.org spec 2.0.0"))
    return [*errors, too_long(at, _LONGEST_VALUE)] if len(value) > _LONGEST_VALUE else errors


def _taint(at: str, taint: Object) -> list[FieldError]:
    effect = text(taint, "effect")
    errors = check_names(f"{at}.key", text(taint, "key"), names.qualified_name)
    if value := text(taint, "value"):
        errors += check_names(f"{at}.value", value, names.label_value)
    if not effect:
        errors.append(required(f"{at}.effect"))
    elif effect not in ("NoExecute", "NoSchedule", "None"):
        errors.append(unsupported(f"{at}.effect", effect, ("NoExecute", "NoSchedule", "None")))
    return errors


def _counters(at: str, holder: Object, key: str) -> list[FieldError]:
    name, counters = text(holder, key), sub(holder, "counters")
    errors = check_names(f"{at}.{key}", name, names.dns1123_label) if name else [required(f"{at}.{key}")]
    if not counters:
        errors.append(required(f"{at}.counters"))
    if len(counters) > _MOST_COUNTERS:
        return [*errors, too_many(f"{at}.counters", len(counters), _MOST_COUNTERS)]
    for counter in sorted(counters):
        errors += check_names(f"{at}.counters[{shortened(counter, 63)}]", counter, names.dns1123_label)
    return errors
