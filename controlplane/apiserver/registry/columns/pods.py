"""Columns of Pods and PodTemplates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.apiserver.registry.columns.parts import AGE, NAME, column, containers, labels_cell, text_or
from controlplane.apiserver.registry.objects import flag, items, number, sub, text
from controlplane.apiserver.registry.printing import NONE, Age, moment_of
from machinery.api.meta import Object, condition

_SUCCEEDED = {
    "type": "Completed",
    "status": "True",
    "reason": "Succeeded",
    "message": "The pod has completed successfully.",
}
_FAILED = {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}


def row_conditions(pod: Object) -> list[Object]:
    """What a Table row says about a pod that has ended."""
    phase = text(pod, "status", "phase")
    return [dict(_SUCCEEDED)] if phase == "Succeeded" else [dict(_FAILED)] if phase == "Failed" else []


@dataclass(slots=True)
class _Tally:
    restarts: int = 0
    last: str = ""
    moment: datetime | None = None

    def count(self, status: Object) -> None:
        self.restarts += number(status, "restartCount")
        finished = text(status, "lastState", "terminated", "finishedAt")
        moment = moment_of(finished)
        if moment and (self.moment is None or moment > self.moment):
            self.last, self.moment = finished, moment


@dataclass(frozen=True, slots=True)
class Summary:
    """A pod in one line."""

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str


def _terminated_word(terminated: Object) -> str:
    if reason := text(terminated, "reason"):
        return reason
    signal = number(terminated, "signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{number(terminated, 'exitCode')}"


def _init_word(position: int, total: int, status: Object) -> str:
    """Why the pod waits for this init container."""
    state = sub(status, "state")
    if isinstance(terminated := state.get("terminated"), dict):
        return "Init:" + _terminated_word(terminated)
    waiting = text(state, "waiting", "reason")
    return f"Init:{waiting}" if waiting and waiting != "PodInitializing" else f"Init:{position}/{total}"


def _is_true(pod: Object, kind: str) -> bool:
    found = condition(items(pod, "status", "conditions"), kind)
    return found is not None and found.get("status") == "True"


def summarise(pod: Object) -> Summary:
    """Readiness, status and restarts of a pod as `kubectl get pods` tells them."""
    spec, status = sub(pod, "spec"), sub(pod, "status")
    inits = items(spec, "initContainers")
    sidecars = {text(c, "name") for c in inits if text(c, "restartPolicy") == "Always"}
    total = len(items(spec, "containers")) + sum(text(c, "restartPolicy") == "Always" for c in inits)
    phase, word = text(status, "phase"), text(status, "reason") or text(status, "phase")
    scheduled = condition(items(status, "conditions"), "PodScheduled")
    if scheduled and scheduled.get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    ready, initializing = 0, False
    tally, of_sidecars = _Tally(), _Tally()
    for position, container in enumerate(items(status, "initContainerStatuses")):
        sidecar = text(container, "name") in sidecars
        tally.count(container)
        if sidecar:
            of_sidecars.count(container)
        terminated = sub(container, "state").get("terminated")
        if isinstance(terminated, dict) and number(terminated, "exitCode") == 0:
            continue
        if sidecar and flag(container, "started"):
            ready += flag(container, "ready")
            continue
        word, initializing = _init_word(position, len(inits), container), True
        break
    if not initializing or _is_true(pod, "Initialized"):
        tally, running = of_sidecars, False
        for container in reversed(items(status, "containerStatuses")):
            tally.count(container)
            state = sub(container, "state")
            if waiting := text(state, "waiting", "reason"):
                word = waiting
            elif isinstance(terminated := state.get("terminated"), dict):
                word = _terminated_word(terminated)
            elif flag(container, "ready") and isinstance(state.get("running"), dict):
                running = True
                ready += 1
        if word == "Completed" and running:
            word = "Running" if _is_true(pod, "Ready") else "NotReady"
    if sub(pod, "metadata").get("deletionTimestamp"):
        if text(status, "reason") == "NodeLost":
            word = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            word = "Terminating"
    return Summary(ready, total, word, tally.restarts, tally.last)


def _ready(pod: Object) -> str:
    summary = summarise(pod)
    return f"{summary.ready}/{summary.total}"


def _restarts(pod: Object) -> Any:
    summary = summarise(pod)
    if summary.restarts and summary.last_restart:
        return Age(summary.last_restart, f"{summary.restarts} (", " ago)")
    return str(summary.restarts)


def _ip(pod: Object) -> str:
    return next((text(ip, "ip") for ip in items(pod, "status", "podIPs")), "") or NONE


def _gates(pod: Object) -> str:
    gates = items(pod, "spec", "readinessGates")
    return f"{sum(_is_true(pod, text(g, 'conditionType')) for g in gates)}/{len(gates)}" if gates else NONE


POD = (
    NAME,
    column("Ready", _ready, "The aggregate readiness state of this pod for accepting traffic."),
    column("Status", lambda pod: summarise(pod).status, "The aggregate status of the containers in this pod."),
    column(
        "Restarts",
        _restarts,
        "The number of times the containers in this pod have been restarted and when the last container in this pod "
        "has restarted.",
    ),
    AGE,
    column("IP", _ip, "core.v1.PodStatus.podIP", wide=True),
    column("Node", text_or(NONE, "spec", "nodeName"), "core.v1.PodSpec.nodeName", wide=True),
    column(
        "Nominated Node",
        text_or(NONE, "status", "nominatedNodeName"),
        "core.v1.PodStatus.nominatedNodeName",
        wide=True,
    ),
    column("Readiness Gates", _gates, "core.v1.PodSpec.readinessGates", wide=True),
)

_NAMES, _IMAGES = containers("template")
POD_TEMPLATE = (
    NAME,
    column("Containers", _NAMES.cell, _NAMES.description),
    column("Images", _IMAGES.cell, _IMAGES.description),
    column("Pod Labels", labels_cell("template", "metadata", "labels"), "The labels for the pod template."),
)
