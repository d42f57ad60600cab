"""The hand of the HorizontalPodAutoscaler controller.

Source: k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from controlplane.controllers import metrics as measured
from controlplane.controllers.autoscaling.calculator import Periods, Tolerance
from controlplane.controllers.autoscaling.limits import Recommendation, ScaleEvent, bounds_of, limit
from controlplane.controllers.autoscaling.metrics import Finding, MetricsReader, Target
from controlplane.controllers.discovery import Discovered, discover
from controlplane.controllers.environment import Environment
from machinery.api import labels, quantity
from machinery.api.catalogue import HORIZONTALPODAUTOSCALERS, PODS
from machinery.api.meta import (
    Object,
    format_time,
    key_of,
    labels_of,
    namespace_of,
    set_condition,
)
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NavarchError
from machinery.events import EventRecorder

ACCOUNT = "horizontal-pod-autoscaler"
_KEPT = 1000
_FAILED = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}


class Unscalable(NavarchError):
    """The target can't be scaled, or nothing is known by which to scale it; already told in a condition."""


@dataclass
class _Memory:
    """What earlier looks found, of one autoscaler."""

    recommendations: deque[Recommendation] = field(default_factory=lambda: deque(maxlen=_KEPT))
    events: deque[ScaleEvent] = field(default_factory=lambda: deque(maxlen=_KEPT))


@dataclass
class _Look:
    """One look at an autoscaler: the status as it grows."""

    hpa: Object
    status: Object
    conditions: list[Object]
    now: str

    def tell(self, kind: str, status: str, reason: str, message: str) -> None:
        told = {"type": kind, "status": status, "reason": reason, "message": message}
        set_condition(self.conditions, told, now=self.now)


@dataclass
class Autoscaler:
    """Scales the target of one autoscaler at a time."""

    autoscalers: Informer
    pods: Informer
    client: Client
    recorder: EventRecorder
    clock: Clock
    period_seconds: float
    window_seconds: float
    tolerance: float
    periods: Periods
    memories: dict[str, _Memory] = field(default_factory=lambda: defaultdict(_Memory))
    selectors: dict[str, labels.Selector] = field(default_factory=dict)
    """Whose pods each autoscaler scales, as far as is known."""

    _discovered: Discovered = field(default_factory=lambda: Discovered((), {}))

    async def reconcile(self, key: str) -> float | None:
        """One look; returns seconds until the next."""
        hpa = self.autoscalers.get(key)
        if hpa is None:
            self.memories.pop(key, None)
            self.selectors.pop(key, None)
            return None
        status = dict(hpa.get("status") or {})
        look = _Look(
            hpa,
            status,
            [dict(c) for c in status.get("conditions") or ()],
            format_time(self.clock.now()),
        )
        started, error = time.perf_counter(), "none"
        try:
            await self._look(key, look)
        except Unscalable:  # the conditions say why; the next look comes in time
            error = "internal"
        before = int(look.status.get("currentReplicas") or 0)
        after = before if error != "none" else int(look.status.get("desiredReplicas") or 0)
        told = (measured.action(before, after), error)
        measured.HPA_LOOKS.labels(*told).inc()
        measured.HPA_SECONDS.labels(*told).observe(time.perf_counter() - started)
        await self._write(look)
        return self.period_seconds

    async def _look(self, key: str, look: _Look) -> None:
        hpa = look.hpa
        resource, scale = await self._scale(look)
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        memory, now = self.memories[key], self.clock.monotonic()
        if not memory.recommendations:
            memory.recommendations.append(Recommendation(current, now))
        low, high = bounds_of(hpa)
        look.status |= {"currentReplicas": current, "observedGeneration": hpa["metadata"].get("generation", 0)}
        if current == 0 and low != 0:
            look.status["desiredReplicas"] = 0
            told = "scaling is disabled since the replica count of the target is zero"
            look.tell("ScalingActive", "False", "ScalingDisabled", told)
            return
        if current > high:
            desired, why = high, "Current number of replicas above Spec.MaxReplicas"
        elif current < low:
            desired, why = low, "Current number of replicas below Spec.MinReplicas"
        else:
            wanted, name = await self._ask_metrics(look, scale, current)
            verdict = limit(hpa, current, wanted, memory.recommendations, memory.events, now, self.window_seconds)
            memory.recommendations.append(Recommendation(wanted, now))
            for told_condition in verdict.conditions:
                look.tell(*told_condition)
            desired = verdict.replicas
            why = f"{name} above target" if desired > current else "All metrics below target"
        if desired != current:
            await self._rescale(look, resource, scale, desired, why)
            memory.events.append(ScaleEvent(desired - current, now))
        look.status["desiredReplicas"] = desired

    # -- the target --------------------------------------------------------------------------------------------------

    async def _scale(self, look: _Look) -> tuple[ResourceType, Object]:
        reference = look.hpa["spec"]["scaleTargetRef"]
        try:
            resource = await self._resource(reference.get("apiVersion") or "", reference["kind"])
            scale = await self.client.get(resource, reference["name"], namespace_of(look.hpa), subresource="scale")
        except NavarchError as exc:
            self.recorder.warning(look.hpa, "FailedGetScale", str(exc))
            told = f"the HPA controller was unable to get the target's current scale: {exc}"
            look.tell("AbleToScale", "False", "FailedGetScale", told)
            raise Unscalable(told) from exc
        told = "the HPA controller was able to get the target's current scale"
        look.tell("AbleToScale", "True", "SucceededGetScale", told)
        return resource, scale

    async def _resource(self, api_version: str, kind: str) -> ResourceType:
        found = self._discovered.of_kind(api_version, kind)
        if found is None:
            self._discovered = await discover(self.client)
            found = self._discovered.of_kind(api_version, kind)
        if found is None:
            raise Unscalable(f'no matches for kind "{kind}" in version "{api_version}"')
        return found

    def _known(self, api_version: str, kind: str) -> ResourceType | None:
        return self._discovered.of_kind(api_version, kind)

    async def _rescale(self, look: _Look, resource: ResourceType, scale: Object, desired: int, why: str) -> None:
        changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": desired}}
        try:
            await self.client.update(resource, changed, subresource="scale")
        except NavarchError as exc:
            told = f"New size: {desired}; reason: {why}; error: {exc}"
            self.recorder.warning(look.hpa, "FailedRescale", told)
            told = f"the HPA controller was unable to update the target scale: {exc}"
            look.tell("AbleToScale", "False", "FailedUpdateScale", told)
            raise Unscalable(told) from exc
        told = f"the HPA controller was able to update the target scale to {desired}"
        look.tell("AbleToScale", "True", "SucceededRescale", told)
        self.recorder.normal(look.hpa, "SuccessfulRescale", f"New size: {desired}; reason: {why}")
        look.status["lastScaleTime"] = look.now

    # -- metrics -----------------------------------------------------------------------------------------------------

    async def _ask_metrics(self, look: _Look, scale: Object, current: int) -> tuple[int, str]:
        """(replicas, the metric that wants them): the most that any metric wants. Raises Unscalable."""
        target = self._target(look, scale, current)
        reader = MetricsReader(self.client, self._known, self.periods)
        tolerance = self._tolerance(look.hpa)
        findings: list[Finding] = []
        shown: list[Object] = []
        first_error = ""
        metrics = look.hpa["spec"].get("metrics") or []
        for metric in metrics:
            started = time.perf_counter()
            try:
                if metric["type"] == "Object":
                    described = metric["object"]["describedObject"]
                    await self._resource(described.get("apiVersion") or "", described["kind"])
                finding = await reader.judge(metric, target, tolerance, self.clock.now())
            except NavarchError as exc:
                reason = _FAILED.get(metric["type"], "InvalidMetricSourceType")
                self.recorder.warning(look.hpa, reason, str(exc))
                _measure(metric, started, "none", "internal" if metric["type"] in _FAILED else "spec")
                shown.append({"type": ""})
                if not first_error:
                    first_error = _failure(metric, exc)
                    told = f"the HPA was unable to compute the replica count: {exc}"
                    look.tell("ScalingActive", "False", reason, told)
                continue
            _measure(metric, started, measured.action(current, finding.replicas), "none")
            findings.append(finding)
            shown.append(finding.status)
        look.status["currentMetrics"] = shown
        best = max(findings, key=lambda f: f.replicas, default=None)
        invalid = len(metrics) - len(findings)
        if best is None or (invalid and best.replicas < current):
            told = f"invalid metrics ({invalid} invalid out of {len(metrics)}), first error is: {first_error}"
            self.recorder.warning(look.hpa, "FailedComputeMetricsReplicas", told)
            raise Unscalable(told)
        told = f"the HPA was able to successfully calculate a replica count from {best.name}"
        look.tell("ScalingActive", "True", "ValidMetricFound", told)
        return best.replicas, best.name

    def _target(self, look: _Look, scale: Object, current: int) -> Target:
        status = scale.get("status") or {}
        text = status.get("selector") or ""
        if not text:
            message = "the HPA target's scale is missing a selector"
            raise self._hopeless(look, ("SelectorRequired", "selector is required"), ("InvalidSelector", message))
        try:
            selector = labels.parse(text)
        except ValueError as exc:
            told = f"couldn't convert selector into a corresponding internal selector object: {exc}"
            raise self._hopeless(look, ("InvalidSelector", told), ("InvalidSelector", told)) from exc
        namespace = namespace_of(look.hpa)
        pods = [p for p in self.pods.list(namespace) if selector.matches(labels_of(p))]
        self.selectors[key_of(look.hpa)] = selector
        rivals = self._scalers_of(namespace, pods)
        if len(rivals) > 1:
            names = " ".join(f"{{{name} {namespace}}}" for name in rivals)
            told = f"pods by selector {text} are controlled by multiple HPAs: [{names}]"
            raise self._hopeless(look, ("AmbiguousSelector", told), ("AmbiguousSelector", told))
        return Target(namespace, current, int(status.get("replicas") or 0), selector, pods)

    def _scalers_of(self, namespace: str, pods: list[Object]) -> list[str]:
        """The names of the autoscalers that scale any of these pods."""
        near = {key: selector for key, selector in self.selectors.items() if key.startswith(f"{namespace}/")}
        found = {key for pod in pods for key, selector in near.items() if selector.matches(labels_of(pod))}
        return sorted(key.partition("/")[2] for key in found)

    def _hopeless(self, look: _Look, event: tuple[str, str], inactive: tuple[str, str]) -> Unscalable:
        """Tell, by an event and a condition (reason, message), that there is nothing to scale by."""
        self.recorder.warning(look.hpa, *event)
        look.tell("ScalingActive", "False", *inactive)
        self.recorder.warning(look.hpa, "FailedComputeMetricsReplicas", event[1])
        return Unscalable(event[1])

    def _tolerance(self, hpa: Object) -> Tolerance:
        """--horizontal-pod-autoscaler-tolerance, unless spec.behavior says otherwise."""
        behavior = hpa["spec"].get("behavior") or {}

        def of(direction: str) -> float:
            given = (behavior.get(direction) or {}).get("tolerance")
            return self.tolerance if given is None else quantity.parse(given).as_float()

        return Tolerance(of("scaleUp"), of("scaleDown"))

    async def _write(self, look: _Look) -> None:
        status = {**look.status, "conditions": look.conditions}
        status.setdefault("desiredReplicas", 0)
        if status != (look.hpa.get("status") or {}):
            changed = {**look.hpa, "status": status}
            await self.client.update(HORIZONTALPODAUTOSCALERS, changed, subresource="status")


def _measure(metric: Object, started: float, action: str, error: str) -> None:
    labels = (action, error, metric["type"])
    measured.HPA_METRICS.labels(*labels).inc()
    measured.HPA_METRIC_SECONDS.labels(*labels).observe(time.perf_counter() - started)


def _failure(metric: Object, error: NavarchError) -> str:
    """What could not be had, in upstream's words."""
    kind = metric["type"]
    source: Object = metric.get(kind[0].lower() + kind[1:]) or {}
    name = (source.get("metric") or {}).get("name") or ""
    average = (source.get("target") or {}).get("averageValue") is not None
    match kind:
        case "Resource":
            return f"failed to get {source['name']} resource metric value: {error}"
        case "ContainerResource":
            return f"failed to get {source['container']} container metric value: {error}"
        case "Pods":
            return f"failed to get pods metric value: {error}"
        case "Object":
            inner = f"failed to get {name} object metric: " if average else ""
            return f"failed to get object metric value: {inner}{error}"
        case "External":
            inner = f"{name} external metric" if average else f"external metric {name}"
            return f"failed to get {name} external metric value: failed to get {inner}: {error}"
    return str(error)


def build(env: Environment) -> list[Controller]:
    """The controller of HorizontalPodAutoscalers."""
    options = env.options
    prefix = "horizontal-pod-autoscaler-"
    autoscalers = env.informer(HORIZONTALPODAUTOSCALERS)
    autoscaler = Autoscaler(
        autoscalers=autoscalers,
        pods=env.informer(PODS),
        client=env.client_for(ACCOUNT),
        recorder=env.recorder("horizontal-pod-autoscaler", ACCOUNT),
        clock=env.clock,
        period_seconds=float(options[prefix + "sync-period"]),
        window_seconds=float(options[prefix + "downscale-stabilization"]),
        tolerance=float(options[prefix + "tolerance"]),
        periods=Periods(
            float(options[prefix + "cpu-initialization-period"]), float(options[prefix + "initial-readiness-delay"])
        ),
    )
    workers = options.concurrent("horizontal-pod-autoscaler")
    controller = Controller("horizontalpodautoscaler", autoscaler.reconcile, workers=workers)

    def changed(old: Object | None, new: Object | None) -> None:
        """Changes of the spec alone are looked at; the rest comes with the period."""
        if new is None or old is None or old["spec"] != new["spec"]:
            controller.enqueue(key_of(new or old or {}))

    autoscalers.on_change(changed)
    return [controller]
