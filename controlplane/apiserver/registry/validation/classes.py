"""Small kinds of the cluster: PriorityClasses, RuntimeClasses, APIServices.

Source: pkg/apis/scheduling/validation, pkg/apis/node/validation,
k8s.io/kube-aggregator/pkg/apis/apiregistration/validation.
"""

from __future__ import annotations

from controlplane.apiserver.bootstrap.priorityclasses import SYSTEM
from controlplane.apiserver.registry.objects import flag, items, number, strings, sub, text
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_map,
    must_equal,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import container_resources
from controlplane.apiserver.registry.validation.scheduling import tolerations
from machinery.api import names
from machinery.api.fielderror import FieldError, duplicate, forbidden, invalid, required, show
from machinery.api.meta import Object, name_of

_SYSTEM_PREFIX = "system-"
_HIGHEST = 1_000_000_000
_PREEMPTION = ("PreemptLowerPriority", "Never")


def priority_class(obj: Object) -> list[FieldError]:
    """A new PriorityClass."""
    name, value = name_of(obj), number(obj, "value")
    errors: list[FieldError] = []
    if name.startswith(_SYSTEM_PREFIX):
        if wrong := _not_of_the_system(name, value, default=flag(obj, "globalDefault")):
            told = (
                f"priority class names with '{_SYSTEM_PREFIX}' prefix are reserved for system use only. error: {wrong}"
            )
            errors.append(forbidden("metadata.name", told))
    elif value > _HIGHEST:
        errors.append(forbidden("value", f"maximum allowed value of a user defined priority is {_HIGHEST}"))
    policy = obj.get("preemptionPolicy")
    if policy is not None and not policy:
        errors.append(required("preemptionPolicy"))
    elif policy is not None and policy not in _PREEMPTION:
        errors.append(unsupported("preemptionPolicy", policy, _PREEMPTION))
    return errors


def _not_of_the_system(name: str, value: int, *, default: bool) -> str:
    if name not in SYSTEM:
        return f"{name} is not a known system priority class"
    if value != SYSTEM[name][0]:
        return f"value of {name} PriorityClass must be {SYSTEM[name][0]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def priority_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a PriorityClass: pods carry its value, so that stays."""
    errors: list[FieldError] = []
    if number(new, "value") != number(old, "value"):
        errors.append(forbidden("value", "may not be changed in an update."))
    return errors + must_equal("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def runtime_class(obj: Object) -> list[FieldError]:
    """A RuntimeClass."""
    handler = text(obj, "handler")
    errors = check_names("handler", handler, names.dns1123_label)
    overhead, scheduling = dictionary(obj, "overhead"), dictionary(obj, "scheduling")
    if overhead is not None:
        errors += container_resources("overhead", {"limits": sub(overhead, "podFixed")}, frozenset())
    if scheduling is not None:
        errors += label_map("scheduling.nodeSelector", strings(scheduling, "nodeSelector"))
        errors += _tolerations("scheduling.tolerations", items(scheduling, "tolerations"))
    return errors


def _tolerations(at: str, given: list[Object]) -> list[FieldError]:
    errors = tolerations(at, given)
    seen: set[tuple[str, ...]] = set()
    for index, toleration in enumerate(given):
        what = tuple(text(toleration, key) for key in ("key", "operator", "value", "effect"))
        if what in seen:
            errors.append(duplicate(f"{at}[{index}]", internal_forms.toleration(toleration)))
        seen.add(what)
    return errors


def runtime_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a RuntimeClass."""
    return runtime_class(new) + must_equal("handler", text(new, "handler"), text(old, "handler"))


def api_service(obj: Object) -> list[FieldError]:
    """An APIService, new or changed."""
    spec = sub(obj, "spec")
    group, version = text(spec, "group"), text(spec, "version")
    wanted = f"{version}.{group}"
    errors: list[FieldError] = []
    if name_of(obj) != wanted and not names.path_segment(name_of(obj)):
        told = f'must be `spec.version+"."+spec.group`: {show(wanted)}'
        errors.append(invalid("metadata.name", name_of(obj), told))
    if not group and version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        errors += check_names("spec.group", group, names.dns1123_subdomain)
    errors += check_names("spec.version", version, names.dns1035_label)
    for key, most in (("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)):
        value = number(spec, key)
        if not 0 < value <= most:
            errors.append(invalid(f"spec.{key}", value, f"must be positive and less than {most}"))
    return errors + _backend(spec)


def _backend(spec: Object) -> list[FieldError]:
    service, insecure = dictionary(spec, "service"), flag(spec, "insecureSkipTLSVerify")
    bundle = text(spec, "caBundle")
    at = "spec.insecureSkipTLSVerify"
    errors: list[FieldError] = []
    if service is None:
        if bundle:
            size = len(bundle) // 4 * 3 - bundle.count("=")
            errors.append(invalid("spec.caBundle", f"{size} bytes", "local APIServices may not have a caBundle"))
        if insecure:
            errors.append(invalid(at, True, "local APIServices may not have insecureSkipTLSVerify"))
        return errors
    errors += [required(f"spec.service.{key}") for key in ("namespace", "name") if not text(service, key)]
    if insecure and bundle:
        errors.append(invalid(at, True, "may not be true if caBundle is present"))
    return errors


def api_service_status(new: Object, old: Object) -> list[FieldError]:
    """A report about an APIService."""
    allowed = ("False", "True", "Unknown")
    return [
        unsupported(f"status.conditions[{index}].status", text(condition, "status"), allowed)
        for index, condition in enumerate(items(new, "status", "conditions"))
        if text(condition, "status") not in allowed
    ]
