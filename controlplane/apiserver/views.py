"""Resources that are two views of one stored object: events of two groups, autoscalers of two versions.

Source: pkg/apis/events/v1/conversion.go, pkg/apis/autoscaling/v1/conversion.go.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from machinery.api import catalogue as c
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


@dataclass(frozen=True, slots=True)
class View:
    """A version that is not the stored one. Both functions make a new object and leave theirs unchanged."""

    stored: ResourceType
    to_stored: Callable[[Object], Object]
    from_stored: Callable[[Object], Object]
    own_rules: bool = False
    """Whether what is sent in this version is held against rules of its own (made for stored objects)."""


# events.k8s.io name → core name; both have all of these
_EVENT_NAMES = {
    "note": "message",
    "regarding": "involvedObject",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_CORE_NAMES = {core: name for name, core in _EVENT_NAMES.items()}


def _renamed(obj: Object, api_version: str, names: dict[str, str]) -> Object:
    made = {names.get(key, key): value for key, value in obj.items()}
    return {**made, "apiVersion": api_version}


def _event_to_core(obj: Object) -> Object:
    return _renamed(obj, "v1", _EVENT_NAMES)


def _event_from_core(obj: Object) -> Object:
    made = _renamed(obj, "events.k8s.io/v1", _CORE_NAMES)
    for key in ("reportingController", "reportingInstance"):
        if not made.get(key):
            made.pop(key, None)
    return made


_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_ANNOTATIONS = (_METRICS, _CURRENT_METRICS, _BEHAVIOR, _CONDITIONS)


def _is_cpu(metric: Object) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return (
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and target.get("averageUtilization") is not None
    )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _metric_v1(metric: Object) -> Object:
    """A v2 metric in the shape that the annotation of v1 has (autoscaling/v2beta1's)."""
    kind = str(metric.get("type", ""))
    made: Object = {"type": kind}
    for key in ("resource", "containerResource", "pods", "object", "external"):
        source = metric.get(key)
        if not isinstance(source, dict):
            continue
        target = source.get("target") or source.get("current") or {}
        now = "current" in source
        entry: Object = {}
        for name, value in (
            ("name", source.get("name")),
            ("container", source.get("container")),
            ("metricName", (source.get("metric") or {}).get("name")),
        ):
            if value:
                entry[name] = value
        selector = (source.get("metric") or {}).get("selector")
        if selector:
            entry["metricSelector" if key == "external" else "selector"] = selector
        if key == "object":
            entry["target"] = source.get("describedObject") or {}
        prefix = "current" if now else "target"
        if target.get("averageUtilization") is not None:
            entry[f"{prefix}AverageUtilization"] = target["averageUtilization"]
        if target.get("averageValue") is not None:
            name = "averageValue" if key == "object" else f"{prefix}AverageValue"
            entry[name] = target["averageValue"]
        if target.get("value") is not None:
            entry[f"{prefix}Value"] = target["value"]
        made[key] = entry
    return made


def _metric_v2(metric: Object) -> Object:
    """The reverse of `_metric_v1`."""
    made: Object = {"type": metric.get("type", "")}
    for key in ("resource", "containerResource", "pods", "object", "external"):
        source = metric.get(key)
        if not isinstance(source, dict):
            continue
        now = any(name.startswith("current") for name in source)
        prefix = "current" if now else "target"
        entry: Object = {name: source[name] for name in ("name", "container") if name in source}
        if "metricName" in source:
            entry["metric"] = {"name": source["metricName"]}
            selector = source.get("metricSelector" if key == "external" else "selector")
            if selector:
                entry["metric"]["selector"] = selector
        if key == "object":
            entry["describedObject"] = source.get("target") or {}
        amounts: Object = {}
        utilization = source.get(f"{prefix}AverageUtilization")
        average = source.get(f"{prefix}AverageValue", source.get("averageValue") if key == "object" else None)
        value = source.get(f"{prefix}Value")
        if utilization is not None:
            amounts["averageUtilization"] = utilization
        if average is not None:
            amounts["averageValue"] = average
        if value is not None:
            amounts["value"] = value
        if not now:
            kind = "Utilization" if utilization is not None else "Value" if value is not None else "AverageValue"
            amounts = {"type": kind, **amounts}
        entry["current" if now else "target"] = amounts
        made[key] = entry
    return made


def _autoscaler_from_v2(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    status = dict(obj.get("status") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _ANNOTATIONS}
    metrics = spec.pop("metrics", None) or []
    others = [m for m in metrics if not _is_cpu(m)]
    for metric in metrics:
        if _is_cpu(metric):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
            break
    if others:
        annotations[_METRICS] = _compact([_metric_v1(m) for m in others])
    behavior = spec.pop("behavior", None)
    if behavior:
        annotations[_BEHAVIOR] = _compact(_behavior_v1(behavior))
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        resource = metric.get("resource") or {}
        utilization = (resource.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and utilization is not None:
            status["currentCPUUtilizationPercentage"] = utilization
    if current:
        annotations[_CURRENT_METRICS] = _compact([_metric_v1(m) for m in current])
    conditions = status.pop("conditions", None)
    if conditions:
        annotations[_CONDITIONS] = _compact(conditions)
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return _assembled(obj, "autoscaling/v1", metadata, annotations, spec, status)


def _behavior_v1(behavior: Object) -> Object:
    names = {"scaleUp": "ScaleUp", "scaleDown": "ScaleDown"}
    inner = {"stabilizationWindowSeconds": "StabilizationWindowSeconds", "selectPolicy": "SelectPolicy"}
    inner |= {"policies": "Policies", "tolerance": "Tolerance"}
    policy = {"type": "Type", "value": "Value", "periodSeconds": "PeriodSeconds"}
    made: Object = {}
    for name, shown in names.items():
        rules = behavior.get(name)
        if rules is None:
            made[shown] = None
            continue
        entry: Object = {title: rules.get(key) for key, title in inner.items()}
        entry["Policies"] = [{policy[k]: v for k, v in p.items() if k in policy} for p in rules.get("policies") or ()]
        made[shown] = entry
    return made


def _behavior_v2(behavior: Object) -> Object:
    made: Object = {}
    for name, shown in (("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")):
        rules = behavior.get(shown)
        if not rules:
            continue
        entry: Object = {}
        for key in ("stabilizationWindowSeconds", "selectPolicy", "tolerance"):
            value = rules.get(key[0].upper() + key[1:])
            if value is not None:
                entry[key] = value
        policies = rules.get("Policies")
        if policies:
            entry["policies"] = [{k[0].lower() + k[1:]: v for k, v in p.items()} for p in policies]
        made[name] = entry
    return made


def _loaded(text: str | None, kind: type) -> Any:
    """What an annotation holds; None if that is not of the kind it should be."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return None
    return value if isinstance(value, kind) else None


def _autoscaler_to_v2(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    status = dict(obj.get("status") or {})
    metadata = dict(obj.get("metadata") or {})
    given = metadata.get("annotations") or {}
    annotations = {k: v for k, v in given.items() if k not in _ANNOTATIONS}
    metrics = [_metric_v2(m) for m in _loaded(given.get(_METRICS), list) or () if isinstance(m, dict)]
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    behavior = _behavior_v2(_loaded(given.get(_BEHAVIOR), dict) or {})
    if behavior:
        spec["behavior"] = behavior
    current = [_metric_v2(m) for m in _loaded(given.get(_CURRENT_METRICS), list) or () if isinstance(m, dict)]
    utilization = status.pop("currentCPUUtilizationPercentage", None)
    if utilization is not None and not current:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": utilization}}}]
    status["currentMetrics"] = current or None
    conditions = _loaded(given.get(_CONDITIONS), list)
    if conditions:
        status["conditions"] = conditions
    return _assembled(obj, "autoscaling/v2", metadata, annotations, spec, status)


def _assembled(
    obj: Object, api_version: str, metadata: Object, annotations: dict[str, str], spec: Object, status: Object
) -> Object:
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    return {"kind": obj["kind"], "apiVersion": api_version, "metadata": metadata, "spec": spec, "status": status}


VIEWS = {
    c.EVENTS_K8S_IO: View(c.EVENTS, _event_to_core, _event_from_core, own_rules=True),
    c.HORIZONTALPODAUTOSCALERS_V1: View(c.HORIZONTALPODAUTOSCALERS, _autoscaler_to_v2, _autoscaler_from_v2),
}
