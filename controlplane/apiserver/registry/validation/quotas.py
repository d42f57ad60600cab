"""LimitRanges and ResourceQuotas.

Source: pkg/apis/core/validation/validation.go (ValidateLimitRange, ValidateResourceQuotaSpec).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import items, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import check_names, repeated
from controlplane.apiserver.registry.validation.resources import (
    container_resource_name,
    is_standard_name,
    may_overcommit,
    parse,
    resource_name,
    resource_value,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

# What may not be more than what, the field that is told, the part whose value is shown, and how.
_COMPARED = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)
_ONLY_CONTAINERS = "may not be specified when `type` is 'Pod'"


def limit_range(obj: Object) -> list[FieldError]:
    """A LimitRange."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, item in enumerate(items(obj, "spec", "limits")):
        at = f"spec.limits[{index}]"
        kind = text(item, "type")
        errors += _type_name(f"{at}.type", kind)
        if kind in seen:
            errors.append(repeated(f"{at}.type", kind))
        seen.add(kind)
        errors += _item(at, kind, item)
    return errors


def _type_name(at: str, kind: str) -> list[FieldError]:
    errors = check_names(at, kind, names.qualified_name)
    if not errors and "/" not in kind and kind not in ("Pod", "Container", "PersistentVolumeClaim"):
        errors.append(invalid(at, kind, "must be a standard limit type or fully qualified"))
    return errors


def _name(at: str, kind: str, name: str) -> list[FieldError]:
    if kind in ("Pod", "Container"):
        return container_resource_name(at, name)
    return resource_name(at, name)


def _item(at: str, kind: str, item: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    parts = ["max", "min"] if kind == "Pod" else ["max", "min", "default", "defaultRequest"]
    if kind == "Pod":
        errors += [forbidden(f"{at}.{p}", _ONLY_CONTAINERS) for p in ("default", "defaultRequest") if sub(item, p)]
    parts.append("maxLimitRequestRatio")
    known: set[str] = set()
    for part in parts:
        for name in sorted(sub(item, part)):
            errors += _name(f"{at}.{part}[{name}]", kind, name)
            known.add(name)
    if kind == "PersistentVolumeClaim" and not ("storage" in sub(item, "min") or "storage" in sub(item, "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{at}.limits", detail))
    for name in sorted(known):
        errors += _compare(at, name, {p: _amount(item, p, name) for p in parts}, item)
    return errors


def _amount(item: Object, part: str, name: str) -> Quantity | None:
    found = sub(item, part).get(name)
    return None if found is None else parse(found)


def _compare(at: str, name: str, amounts: dict[str, Quantity | None], item: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for small, great, where, shown, detail in _COMPARED:
        low, high = amounts.get(small), amounts.get(great)
        if low is not None and high is not None and low > high:
            errors.append(invalid(f"{at}.{where}[{name}]", str(amounts[shown]), detail.format(low, high)))
    ratio, least, most = amounts.get("maxLimitRequestRatio"), amounts.get("min"), amounts.get("max")
    if ratio is not None:
        where = f"{at}.maxLimitRequestRatio[{name}]"
        if ratio.as_float() < 1:
            errors.append(invalid(where, str(ratio), f"ratio {ratio} is less than 1"))
        if least is not None and most is not None and least.nanos:
            bound = most.nanos / least.nanos
            if ratio.as_float() > bound:
                errors.append(invalid(where, str(ratio), f"ratio {ratio} is greater than max/min = {bound:f}"))
    limit, request = amounts.get("default"), amounts.get("defaultRequest")
    if not may_overcommit(name) and limit is not None and request is not None and limit != request:
        detail = f"default value {limit} must equal to defaultRequest value {request} in {name}"
        errors.append(invalid(f"{at}.defaultRequest[{name}]", str(request), detail))
    return errors


SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)
_CONFLICTS = (frozenset(("BestEffort", "NotBestEffort")), frozenset(("Terminating", "NotTerminating")))
_POD_OBJECTS = frozenset(
    (
        "pods",
        "cpu",
        "memory",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
    )
)


def quota(obj: Object) -> list[FieldError]:
    """A ResourceQuota."""
    spec = sub(obj, "spec")
    errors = amounts("spec.hard", sub(spec, "hard"))
    return errors + _scopes("spec.scopes", spec) + _scope_selector("spec.scopeSelector", spec)


def amounts(at: str, found: Object) -> list[FieldError]:
    """Amounts of what a quota counts."""
    errors: list[FieldError] = []
    for name, amount in sorted(found.items()):
        where = f"{at}[{name}]"
        wrong = resource_name(where, name)
        if not wrong and "/" not in name and not _countable(name):
            wrong = [invalid(where, name, "must be a standard resource for quota")]
        errors += wrong + resource_value(where, name, amount)
    return errors


def _countable(name: str) -> bool:
    return is_standard_name(name) and name != "storage"


def _fits(scope: str, name: str) -> bool:
    if scope in ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"):
        return name in _POD_OBJECTS
    return name == "pods" if scope == "BestEffort" else True


def _scopes(at: str, spec: Object) -> list[FieldError]:
    scopes = [v for v in values(spec, "scopes") if isinstance(v, str)]
    errors: list[FieldError] = []
    for scope in scopes:
        if scope not in SCOPES:
            errors.append(invalid(at, scopes, "unsupported scope"))
        errors += [
            invalid(at, scopes, "unsupported scope applied to resource")
            for name in sorted(sub(spec, "hard"))
            if scope in SCOPES and is_standard_name(name) and not _fits(scope, name)
        ]
    return errors + [invalid(at, scopes, "conflicting scopes") for both in _CONFLICTS if both <= set(scopes)]


_PLAIN_SCOPES = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity")
_MUST_EXIST = (
    "must be 'Exists' when scope is any of "
    + ", ".join(f"ResourceQuotaScope{scope}" for scope in _PLAIN_SCOPES[:-1])
    + f" or ResourceQuotaScope{_PLAIN_SCOPES[-1]}"
)


def _scope_selector(at: str, spec: Object) -> list[FieldError]:
    expressions = items(spec, "scopeSelector", "matchExpressions")
    errors: list[FieldError] = []
    where, shown = f"{at}.matchExpressions", internal_forms.scope_selector(spec.get("scopeSelector"))
    known: set[str] = set()
    for expression in expressions:
        scope, operator = text(expression, "scopeName"), text(expression, "operator")
        wanted = values(expression, "values")
        known.add(scope)
        if scope not in SCOPES:
            errors.append(invalid(f"{where}.scopeName", scope, "unsupported scope"))
        errors += [
            invalid(where, shown, "unsupported scope applied to resource")
            for name in sorted(sub(spec, "hard"))
            if scope in SCOPES and is_standard_name(name) and not _fits(scope, name)
        ]
        if scope in _PLAIN_SCOPES and operator != "Exists":
            errors.append(invalid(f"{where}.operator", operator, _MUST_EXIST))
        if operator in ("In", "NotIn"):
            if not wanted:
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{where}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if wanted:
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid(f"{where}.values", wanted, detail))
        else:
            errors.append(invalid(f"{where}.operator", operator, "not a valid selector operator"))
    scopes = values(spec, "scopes") or None
    return errors + [invalid(where, scopes, "conflicting scopes") for both in _CONFLICTS if both <= known]


def quota_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ResourceQuota: its scopes stay."""
    errors = quota(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    if set(map(str, values(after, "scopes"))) != set(map(str, values(before, "scopes"))):
        errors.append(invalid("spec.scopes", values(after, "scopes") or None, "field is immutable"))
    return errors


def quota_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a ResourceQuota."""
    status = sub(new, "status")
    errors: list[FieldError] = []
    if not text(new, "metadata", "resourceVersion"):
        errors.append(required("resourceVersion"))
    for key in ("hard", "used"):
        errors += amounts(f"status.{key}", sub(status, key))
    return errors
