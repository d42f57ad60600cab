"""Asking the metrics APIs, and what each metric of a HorizontalPodAutoscaler asks for.

Source: k8s.io/metrics (metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io);
k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go, "computeReplicasForMetric".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers.autoscaling.calculator import (
    Answer,
    NoReplicas,
    Periods,
    PodMetric,
    Tolerance,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
    requests_of,
)
from controlplane.controllers.pods import is_ready, phase_of
from machinery.api import labels, quantity
from machinery.api.meta import Object, parse_time
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import NavarchError
from machinery.settings import duration


@dataclass(frozen=True)
class Target:
    """What is scaled, as the calculation needs it."""

    namespace: str
    replicas: int
    """What is asked for."""

    present: int
    """How many there are, as the scale's status tells."""

    selector: labels.Selector
    pods: list[Object]


@dataclass(frozen=True)
class Finding:
    """What one metric asks for."""

    replicas: int
    name: str
    """As messages call the metric."""

    status: Object
    """The entry of status.currentMetrics."""


@dataclass(frozen=True)
class MetricsReader:
    """Reads metrics and judges them."""

    client: Client
    resource_of: Callable[[str, str], ResourceType | None]
    periods: Periods

    async def judge(self, spec: Object, target: Target, tolerance: Tolerance, now: datetime) -> Finding:
        """What a metric of spec.metrics asks for. Raises NavarchError."""
        match spec["type"]:
            case "Resource":
                return await self._of_resource(spec["resource"], "", target, tolerance, now)
            case "ContainerResource":
                source = spec["containerResource"]
                return await self._of_resource(source, source["container"], target, tolerance, now)
            case "Pods":
                return await self._pods(spec["pods"], target, tolerance, now)
            case "Object":
                return await self._object(spec["object"], target, tolerance)
            case "External":
                return await self._external(spec["external"], target, tolerance)
        raise NoReplicas(f'unknown metric source type "{spec["type"]}"')

    # -- resources -----------------------------------------------------------------------------------------------------

    async def _of_resource(
        self, source: Object, container: str, target: Target, tolerance: Tolerance, now: datetime
    ) -> Finding:
        name, wanted = source["name"], source["target"]
        if wanted.get("averageValue") is None and wanted.get("averageUtilization") is None:
            raise NoReplicas(
                "invalid resource metric source: neither an average utilization target nor an average value (usage) "
                "target was set"
            )
        try:
            return await self._resource(source, container, target, tolerance, now)
        except NavarchError as exc:
            what = "usage" if wanted.get("averageValue") is not None else "utilization"
            raise NoReplicas(f"failed to get {name} {what}: {exc}") from exc

    async def _resource(
        self, source: Object, container: str, target: Target, tolerance: Tolerance, now: datetime
    ) -> Finding:
        name, wanted = source["name"], source["target"]
        metrics = await self._pod_resources(name, container, target)
        if wanted.get("averageValue") is None:
            known = [p for p in target.pods if phase_of(p) not in ("Failed", "Succeeded")]
            requests = requests_of(known, name, container)
            percent = int(wanted["averageUtilization"])
            answer = by_utilization(
                target.replicas, percent, target.pods, metrics, requests, name, tolerance, self.periods, now
            )
            told = f"{name} {'container ' if container else ''}resource utilization (percentage of request)"
        else:
            amount = quantity.parse(wanted["averageValue"]).milli_value()
            answer = by_average(target.replicas, amount, target.pods, metrics, name, tolerance, self.periods, now)
            told = f"{name} resource"
        current: Object = {"averageValue": str(quantity.of_milli(answer.average))}
        if answer.utilization is not None:
            current["averageUtilization"] = answer.utilization
        shown: Object = {"name": name, "current": current}
        if container:
            shown["container"] = container
            return Finding(answer.replicas, told, {"type": "ContainerResource", "containerResource": shown})
        return Finding(answer.replicas, told, {"type": "Resource", "resource": shown})

    async def _pod_resources(self, resource: str, container: str, target: Target) -> dict[str, PodMetric]:
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{target.namespace}/pods"
        try:
            answer = await self.client.request("GET", path, query={"labelSelector": str(target.selector)})
        except NavarchError as exc:
            raise NoReplicas(f"unable to get metrics for resource {resource}: {exc}") from exc
        found: dict[str, PodMetric] = {}
        for item in answer.get("items") or ():
            usages = [
                c.get("usage", {}).get(resource)
                for c in item.get("containers") or ()
                if not container or c.get("name") == container
            ]
            if not usages or any(usage is None for usage in usages):
                continue
            value = sum(quantity.parse(usage).milli_value() for usage in usages)
            window = duration(item["window"])
            found[item["metadata"]["name"]] = PodMetric(value, parse_time(item["timestamp"]), window)
        if not found:
            raise NoReplicas(
                f"unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
            )
        return found

    # -- custom and external ---------------------------------------------------------------------------------------

    async def _pods(self, source: Object, target: Target, tolerance: Tolerance, now: datetime) -> Finding:
        metric = source["metric"]
        base = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{target.namespace}/pods/*/{metric['name']}"
        items = await self._values(base, metric, str(target.selector))
        metrics = {
            item["describedObject"]["name"]: PodMetric(
                quantity.parse(item["value"]).milli_value(),
                parse_time(item["timestamp"]),
                float(item.get("windowSeconds") or 60),
            )
            for item in items
        }
        amount = quantity.parse(source["target"]["averageValue"]).milli_value()
        answer: Answer = by_average(target.replicas, amount, target.pods, metrics, "", tolerance, self.periods, now)
        current = {"averageValue": str(quantity.of_milli(answer.average))}
        status = {"type": "Pods", "pods": {"metric": metric, "current": current}}
        return Finding(answer.replicas, f"pods metric {metric['name']}", status)

    async def _object(self, source: Object, target: Target, tolerance: Tolerance) -> Finding:
        metric, described = source["metric"], source["describedObject"]
        resource = self.resource_of(described.get("apiVersion") or "", described["kind"])
        if resource is None:
            raise NoReplicas(f"unable to get metric {metric['name']}: no kind {described['kind']} is known")
        if resource.plural == "namespaces":
            path = f"namespaces/{described['name']}/metrics/{metric['name']}"
        else:
            where = f"namespaces/{target.namespace}/" if resource.namespaced else ""
            path = f"{where}{resource.group_resource}/{described['name']}/{metric['name']}"
        items = await self._values(f"/apis/custom.metrics.k8s.io/v1beta2/{path}", metric, "")
        value = quantity.parse(items[0]["value"]).milli_value()
        replicas, current = self._whole(source["target"], value, target, tolerance)
        shown = {"metric": metric, "current": current, "describedObject": described}
        told = f"{described['kind']} metric {metric['name']}"
        return Finding(replicas, told, {"type": "Object", "object": shown})

    async def _external(self, source: Object, target: Target, tolerance: Tolerance) -> Finding:
        metric = source["metric"]
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{target.namespace}/{metric['name']}"
        selector = str(labels.from_selector(metric.get("selector") or {}))
        try:
            answer = await self.client.request("GET", path, query={"labelSelector": selector} if selector else None)
        except NavarchError as exc:
            raise NoReplicas(f"unable to get external metric {target.namespace}/{metric['name']}: {exc}") from exc
        items = answer.get("items") or []
        if not items:
            raise NoReplicas(f"no metrics returned from external metrics API for {metric['name']}")
        value = sum(quantity.parse(item["value"]).milli_value() for item in items)
        replicas, current = self._whole(source["target"], value, target, tolerance)
        selector_text = f"external metric {metric['name']}({metric.get('selector') or 'nil'})"
        return Finding(
            replicas, selector_text, {"type": "External", "external": {"metric": metric, "current": current}}
        )

    @staticmethod
    def _whole(wanted: Object, value: int, target: Target, tolerance: Tolerance) -> tuple[int, Object]:
        """(replicas, status) of a metric that is one number for all pods."""
        if wanted.get("averageValue") is not None:
            amount = quantity.parse(wanted["averageValue"]).milli_value()
            replicas = by_value_per_pod(target.present, amount, value, tolerance)
            return replicas, {"averageValue": str(quantity.of_milli(-(-value // max(1, target.present))))}
        amount = quantity.parse(wanted["value"]).milli_value()
        ready = sum(phase_of(p) == "Running" and is_ready(p) for p in target.pods)
        replicas = by_value(target.replicas, ready, amount, value, tolerance)
        return replicas, {"value": str(quantity.of_milli(value))}

    async def _values(self, path: str, metric: Object, selector: str) -> list[Object]:
        query = {}
        if selector:
            query["labelSelector"] = selector
        if metric.get("selector"):
            query["metricLabelSelector"] = str(labels.from_selector(metric["selector"]))
        try:
            answer = await self.client.request("GET", path, query=query)
        except NavarchError as exc:
            raise NoReplicas(f"unable to get metric {metric['name']}: {exc}") from exc
        items = list(answer.get("items") or ())
        if not items:
            raise NoReplicas(f"unable to get metric {metric['name']}: no metrics returned from custom metrics API")
        return items
