"""How many replicas a measurement asks for. Pure functions.

Pods without a measurement, and those too young to be trusted, are counted so that they never make the answer bolder.

Source: k8s.io/kubernetes/pkg/controller/podautoscaler/replica_calculator.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.controllers.pods import phase_of, pod_condition
from machinery.api import quantity
from machinery.api.meta import Object, is_deleting, name_of, parse_time
from machinery.errors import NavarchError


class NoReplicas(NavarchError):
    """The measurement says nothing about how many replicas there should be."""


@dataclass(frozen=True)
class PodMetric:
    """What one pod used (thousandths of the metric's unit), over `window_seconds` until `at`."""

    value: int
    at: datetime
    window_seconds: float


@dataclass(frozen=True)
class Tolerance:
    """How far from its target a ratio may be without anything being done."""

    up: float
    down: float

    def holds(self, ratio: float) -> bool:
        """Whether the ratio is near enough to 1."""
        return 1 - self.down <= ratio <= 1 + self.up


@dataclass(frozen=True)
class Periods:
    """How young a pod's measurements are not trusted. Seconds."""

    cpu_initialization: float
    initial_readiness: float


@dataclass(frozen=True)
class Grouped:
    """Pods by what their measurements are worth."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """Replicas asked for, and what the status shows of the metric."""

    replicas: int
    utilization: int | None
    average: int
    """Thousandths, per pod."""


def group(
    pods: Iterable[Object], metrics: Mapping[str, PodMetric], resource: str, periods: Periods, now: datetime
) -> Grouped:
    """Sort pods. `resource` is cpu, memory, … or "" for other metrics."""
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for pod in pods:
        name = name_of(pod)
        if is_deleting(pod) or phase_of(pod) == "Failed":
            ignored.add(name)
        elif phase_of(pod) == "Pending":
            unready.add(name)
        elif name not in metrics:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, metrics[name], periods, now):
            unready.add(name)
        else:
            ready += 1
    return Grouped(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_starting(pod: Object, metric: PodMetric, periods: Periods, now: datetime) -> bool:
    """Whether the pod's CPU is that of its start."""
    condition, started = pod_condition(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    if condition is None or not started:
        return True
    begun, changed = parse_time(started), parse_time(condition["lastTransitionTime"])
    if begun + timedelta(seconds=periods.cpu_initialization) > now:
        return condition["status"] == "False" or metric.at < changed + timedelta(seconds=metric.window_seconds)
    never_ready = begun + timedelta(seconds=periods.initial_readiness) > changed
    return condition["status"] == "False" and never_ready


def requests_of(pods: Iterable[Object], resource: str, container: str = "") -> dict[str, int]:
    """What each pod (or one container of it) requests, in thousandths. Raises NoReplicas if one does not."""
    found: dict[str, int] = {}
    for pod in pods:
        whole = ((pod["spec"].get("resources") or {}).get("requests") or {}).get(resource)
        if whole is not None and not container:
            found[name_of(pod)] = quantity.parse(whole).milli_value()
            continue
        total, seen = 0, False
        restartable = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
        for spec in [*(pod["spec"].get("containers") or ()), *restartable]:
            if container and spec["name"] != container:
                continue
            amount = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
            if amount is None:
                raise NoReplicas(f"missing request for {resource} in container {spec['name']} of Pod {name_of(pod)}")
            total, seen = total + quantity.parse(amount).milli_value(), True
        if container and not seen:
            raise NoReplicas(f"Container {container} not found in Pod {name_of(pod)}")
        found[name_of(pod)] = total
    return found


def _trusted(
    pods: list[Object], metrics: Mapping[str, PodMetric], resource: str, periods: Periods, now: datetime
) -> tuple[Grouped, dict[str, int]]:
    """(the pods, sorted; what those used that can be trusted). Raises NoReplicas."""
    if not pods:
        raise NoReplicas("no pods returned by selector while calculating replica count")
    grouped = group(pods, metrics, resource, periods, now)
    used = {n: m.value for n, m in metrics.items() if n not in grouped.ignored | grouped.unready}
    if not used:
        raise NoReplicas("did not receive metrics for targeted pods (pods might be unready)")
    return grouped, used


def by_utilization(
    current: int,
    target: int,
    pods: list[Object],
    metrics: Mapping[str, PodMetric],
    requests: Mapping[str, int],
    resource: str,
    tolerance: Tolerance,
    periods: Periods,
    now: datetime,
) -> Answer:
    """Replicas for a target in percent of the pods' requests. Raises NoReplicas."""
    grouped, used = _trusted(pods, metrics, resource, periods, now)

    def ratio(usage: Mapping[str, int]) -> tuple[float, int, int]:
        counted = {n: v for n, v in usage.items() if n in requests}
        wanted = sum(requests[n] for n in counted)
        if wanted == 0:
            raise NoReplicas("no metrics returned matched known pods")
        total = sum(counted.values())
        utilization = total * 100 // wanted
        return utilization / target, utilization, total // len(counted)

    first, utilization, average = ratio(used)
    worst = {n: requests.get(n, 0) * max(100, target) // 100 for n in grouped.missing}
    replicas = _settle(current, grouped, first, dict(used), worst, lambda u: ratio(u)[0], tolerance)
    return Answer(replicas, utilization, average)


def by_average(
    current: int,
    target: int,
    pods: list[Object],
    metrics: Mapping[str, PodMetric],
    resource: str,
    tolerance: Tolerance,
    periods: Periods,
    now: datetime,
) -> Answer:
    """Replicas for a target of so much (thousandths) a pod. Raises NoReplicas."""
    grouped, used = _trusted(pods, metrics, resource, periods, now)

    def ratio(usage: Mapping[str, int]) -> float:
        return sum(usage.values()) // len(usage) / target

    average = sum(used.values()) // len(used)
    worst = dict.fromkeys(grouped.missing, target)
    replicas = _settle(current, grouped, ratio(used), dict(used), worst, ratio, tolerance)
    return Answer(replicas, None, average)


def _settle(
    current: int,
    grouped: Grouped,
    first: float,
    used: dict[str, int],
    worst: Mapping[str, int],
    ratio: Callable[[Mapping[str, int]], float],
    tolerance: Tolerance,
) -> int:
    """The replicas that a ratio asks for, once pods without a trusted measurement are thought in."""
    unready_matters = bool(grouped.unready) and first > 1.0
    if not unready_matters and not grouped.missing:
        return current if tolerance.holds(first) else math.ceil(first * grouped.ready)
    if first < 1.0:
        used.update(worst)  # shrinking: they may be as busy as can be
    else:
        used.update(dict.fromkeys(grouped.missing, 0))  # growing: they may be idle
    if unready_matters:
        used.update(dict.fromkeys(grouped.unready, 0))
    second = ratio(used)
    if tolerance.holds(second) or (first < 1.0) != (second < 1.0):
        return current
    replicas = math.ceil(second * len(used))
    turned = (second < 1.0 and replicas > current) or (second > 1.0 and replicas < current)
    return current if turned else replicas


def by_value(current: int, ready: int, target: int, value: int, tolerance: Tolerance) -> int:
    """Replicas for a target of the metric as a whole (thousandths)."""
    ratio = value / target
    if tolerance.holds(ratio):
        return current
    return math.ceil(ratio * ready) if current else math.ceil(ratio)


def by_value_per_pod(current: int, target: int, value: int, tolerance: Tolerance) -> int:
    """Replicas for a target of the metric divided by the replicas (thousandths)."""
    if current and tolerance.holds(value / (target * current)):
        return current
    return math.ceil(value / target)
