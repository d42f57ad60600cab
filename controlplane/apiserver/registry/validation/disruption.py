"""PodDisruptionBudgets and HorizontalPodAutoscalers.

Source: pkg/apis/policy/validation/validation.go, pkg/apis/autoscaling/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import integer, items, number, sub, text
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.conditions import conditions
from controlplane.apiserver.registry.validation.parts import (
    at_most_all,
    check_names,
    dictionary,
    label_selector,
    not_negative,
    percent_or_number,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import container_resource_name, parse
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object


def budget(obj: Object) -> list[FieldError]:
    """A PodDisruptionBudget."""
    spec = sub(obj, "spec")
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    errors: list[FieldError] = []
    if least is not None and most is not None:
        shown = internal_forms.disruption_budget_spec(spec)
        errors.append(invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for key, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += percent_or_number(f"spec.{key}", value) + at_most_all(f"spec.{key}", value)
    errors += label_selector("spec.selector", spec.get("selector"))
    policy, allowed = spec.get("unhealthyPodEvictionPolicy"), ("AlwaysAllow", "IfHealthyBudget")
    if isinstance(policy, str) and policy not in allowed:
        errors.append(unsupported("spec.unhealthyPodEvictionPolicy", policy, allowed))
    return errors


def budget_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a PodDisruptionBudget."""
    status = sub(new, "status")
    errors = conditions("status.conditions", items(status, "conditions"))
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        errors += not_negative(f"status.{key}", status.get(key))
    return errors


def autoscaler(obj: Object) -> list[FieldError]:
    """A HorizontalPodAutoscaler of autoscaling/v2."""
    spec = sub(obj, "spec")
    least, most = integer(spec, "minReplicas"), number(spec, "maxReplicas")
    errors: list[FieldError] = []
    if least is not None and least < 1:
        errors.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _reference("spec.scaleTargetRef", sub(spec, "scaleTargetRef"))
    for index, metric in enumerate(items(spec, "metrics")):
        errors += _metric(f"spec.metrics[{index}]", metric)
    if least == 0 and not any(text(metric, "type") in ("Object", "External") for metric in items(spec, "metrics")):
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden("spec.metrics", detail))
    behavior = dictionary(spec, "behavior")
    if behavior is not None:
        for key in ("scaleUp", "scaleDown"):
            if (rules := dictionary(behavior, key)) is not None:
                errors += _scaling_rules(f"spec.behavior.{key}", rules)
    return errors


def autoscaler_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a HorizontalPodAutoscaler."""
    errors: list[FieldError] = []
    for key in ("currentReplicas", "desiredReplicas"):
        errors += not_negative(f"status.{key}", sub(new, "status").get(key))
    return errors


def _reference(at: str, reference: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("kind", "name"):
        value = text(reference, key)
        errors += check_names(f"{at}.{key}", value, names.path_segment) if value else [required(f"{at}.{key}")]
    version = text(reference, "apiVersion")
    if version.count("/") > 1:
        errors.append(invalid(f"{at}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    return errors


_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _metric(at: str, metric: Object) -> list[FieldError]:
    kind = text(metric, "type")
    errors: list[FieldError] = []
    unknown = [] if kind in _SOURCES else [unsupported(f"{at}.type", kind, tuple(_SOURCES))]
    if not kind:
        errors.append(required(f"{at}.type", "must specify a metric source type"))
    errors += unknown
    present = [
        k for k in ("object", "external", "pods", "resource", "containerResource") if isinstance(metric.get(k), dict)
    ]
    for key in present[:1]:
        errors += _source(f"{at}.{key}", key, sub(metric, key))
    errors += unknown  # told twice
    expected = _SOURCES.get(kind)
    if expected and expected not in present:
        errors.append(required(f"{at}.{expected}", "must populate information for the given metric source"))
    if len(present) != 1:
        errors += [
            forbidden(f"{at}.{key}", "must populate the given metric source only") for key in present if key != expected
        ]
    return errors


def _source(at: str, key: str, source: Object) -> list[FieldError]:
    target = sub(source, "target")
    errors: list[FieldError] = []
    if key == "object":
        errors += _reference(f"{at}.describedObject", sub(source, "describedObject"))
    if key in ("object", "external", "pods"):
        errors += _identifier(f"{at}.metric", sub(source, "metric"))
    if key in ("resource", "containerResource") and not text(source, "name"):
        errors.append(required(f"{at}.name", "must specify a resource name"))
    elif key == "containerResource":
        errors += container_resource_name(f"{at}.name", text(source, "name"))
    if key == "containerResource":
        name = text(source, "container")
        errors += (
            check_names(f"{at}.container", name, names.dns1123_label)
            if name
            else [required(f"{at}.container", "must specify a container")]
        )
    errors += _target(f"{at}.target", target)
    value, average = target.get("value"), target.get("averageValue")
    utilization = target.get("averageUtilization")
    if key in ("resource", "containerResource"):
        if utilization is None and average is None:
            detail = "must set either a target raw value or a target utilization"
            errors.append(required(f"{at}.target.averageUtilization", detail))
        elif utilization is not None and average is not None:
            detail = "may not set both a target raw value and a target utilization"
            errors.append(forbidden(f"{at}.target.averageValue", detail))
    elif key == "pods":
        if average is None:
            errors.append(required(f"{at}.target.averageValue", "must specify a positive target averageValue"))
    elif value is None and average is None:
        what = "value or averageValue" if key == "object" else "value for metric or a per-pod target"
        errors.append(required(f"{at}.target.averageValue", f"must set either a target {what}"))
    elif key == "external" and value is not None and average is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{at}.target.value", detail))
    return errors


def _positive(amount: Any) -> bool:
    found = parse(amount)
    return found is not None and found.nanos > 0


def _identifier(at: str, metric: Object) -> list[FieldError]:
    name = text(metric, "name")
    if not name:
        return [required(f"{at}.name", "must specify a metric name")]
    return check_names(f"{at}.name", name, names.path_segment)


def _target(at: str, target: Object) -> list[FieldError]:
    kind = text(target, "type")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{at}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        errors.append(invalid(f"{at}.type", kind, "must be either Utilization, Value, or AverageValue"))
    errors += [
        invalid(f"{at}.{key}", str(target[key]), "must be positive")
        for key in ("value", "averageValue")
        if target.get(key) is not None and not _positive(target[key])
    ]
    utilization = integer(target, "averageUtilization")
    if utilization is not None and utilization < 1:
        errors.append(invalid(f"{at}.averageUtilization", utilization, "must be greater than 0"))
    return errors


def _scaling_rules(at: str, rules: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    window, select = integer(rules, "stabilizationWindowSeconds"), rules.get("selectPolicy")
    where = f"{at}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        errors.append(invalid(where, window, "must be greater than or equal to zero"))
    if window is not None and window > 3600:
        errors.append(invalid(where, window, "must be less than or equal to 3600"))
    allowed = ("Disabled", "Max", "Min")
    if isinstance(select, str) and select not in allowed:
        errors.append(unsupported(f"{at}.selectPolicy", select, allowed))
    policies = items(rules, "policies")
    if not policies:
        errors.append(required(f"{at}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        errors += _scaling_policy(f"{at}.policies[{index}]", policy)
    tolerance = rules.get("tolerance")
    found = parse(tolerance) if tolerance is not None else None
    if found is not None and found.nanos < 0:
        errors.append(invalid(f"{at}.tolerance", str(tolerance), "must be greater than or equal to 0"))
    return errors


def _scaling_policy(at: str, policy: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if text(policy, "type") not in ("Pods", "Percent"):
        errors.append(unsupported(f"{at}.type", text(policy, "type"), ("Percent", "Pods")))
    if number(policy, "value") <= 0:
        errors.append(invalid(f"{at}.value", number(policy, "value"), "must be greater than zero"))
    seconds = number(policy, "periodSeconds")
    if seconds <= 0:
        errors.append(invalid(f"{at}.periodSeconds", seconds, "must be greater than zero"))
    if seconds > 1800:
        errors.append(invalid(f"{at}.periodSeconds", seconds, "must be less than or equal to 1800"))
    return errors
