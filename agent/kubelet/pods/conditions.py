"""The conditions of a pod that the kubelet owns.

Source: kubelet's status/generate.go; pod lifecycle, "Pod conditions"; KEP-3085 (PodReadyToStartContainers).
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.kubelet.container.model import RuntimePod
from agent.kubelet.pods import restart, spec
from agent.kubelet.pods.phase import FAILED, SUCCEEDED
from machinery.api import meta
from machinery.api.meta import Object

READY_TO_START = "PodReadyToStartContainers"
INITIALIZED, READY, CONTAINERS_READY, SCHEDULED = "Initialized", "Ready", "ContainersReady", "PodScheduled"
RESIZE_PENDING, RESIZE_IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
ALL_RESTARTING = "AllContainersRestarting"
DISRUPTION_TARGET = "DisruptionTarget"
OWNED = frozenset(
    (
        READY_TO_START,
        INITIALIZED,
        READY,
        CONTAINERS_READY,
        SCHEDULED,
        RESIZE_PENDING,
        RESIZE_IN_PROGRESS,
        ALL_RESTARTING,
    )
)


def make(kind: str, holds: bool, reason: str = "", message: str = "") -> Object:
    """A condition without times."""
    found: Object = {"type": kind, "status": "True" if holds else "False"}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


def _names(names: Sequence[str]) -> str:
    return "[" + " ".join(names) + "]"


def _by_name(statuses: Sequence[Object]) -> dict[str, Object]:
    return {status["name"]: status for status in statuses}


def ready_to_start(has_network: bool) -> Object:
    """Whether the sandbox is there, with its network."""
    return make(READY_TO_START, has_network)


def all_restarting(pod: Object, runtime: RuntimePod, phase: str) -> Object | None:
    """Whether all containers are to start again because of one that ended; None for pods that can't have that."""
    rules = [r for c in spec.all_containers(pod) for r in c.get("restartPolicyRules") or ()]
    if not any(rule.get("action") == restart.RESTART_ALL for rule in rules):
        return None
    if phase in (SUCCEEDED, FAILED):
        return make(ALL_RESTARTING, False, "PodCompleted" if phase == SUCCEEDED else "PodFailed")
    if not restart.asks_for_all(pod, runtime):
        return make(ALL_RESTARTING, False)
    return make(ALL_RESTARTING, True, "RestartAllContainersStarted", "container exited with restart policy rule")


def initialized(pod: Object, statuses: Sequence[Object] | None, phase: str) -> Object:
    """Whether init containers have done their work."""
    if statuses is None and spec.init_containers(pod):
        return make(INITIALIZED, False, "UnknownContainerStatuses")
    by_name = _by_name(statuses or ())
    unknown, incomplete = [], []
    for container in spec.init_containers(pod):
        status = by_name.get(container["name"])
        if status is None:
            unknown.append(container["name"])
        elif not (status.get("started") if spec.is_sidecar(container) else status.get("ready")):
            incomplete.append(container["name"])
    if phase == SUCCEEDED and not unknown:
        return make(INITIALIZED, True, "PodCompleted")
    if any(_has_started(by_name.get(c["name"])) for c in spec.containers(pod)):
        return make(INITIALIZED, True)
    messages = []
    if unknown:
        messages.append(f"containers with unknown status: {_names(unknown)}")
    if incomplete:
        messages.append(f"containers with incomplete status: {_names(incomplete)}")
    if messages:
        return make(INITIALIZED, False, "ContainersNotInitialized", ", ".join(messages))
    return make(INITIALIZED, True)


def _has_started(status: Object | None) -> bool:
    if status is None:
        return False
    state, before = status.get("state") or {}, status.get("lastState") or {}
    return bool(status.get("started") or state.get("running") or state.get("terminated") or before.get("terminated"))


def has_any_app_started(pod: Object, statuses: Sequence[Object]) -> bool:
    """Whether any app container has ever run."""
    by_name = _by_name(statuses)
    return any(_has_started(by_name.get(c["name"])) for c in spec.containers(pod))


def has_been_tried(status: Object) -> bool:
    """Whether a container has ever left the state in which it waits to be started."""
    return "waiting" not in (status.get("state") or {}) or bool((status.get("lastState") or {}).get("terminated"))


def has_had_its_turn(pod: Object, apps: Sequence[Object], inits: Sequence[Object]) -> bool:
    """Whether the init containers were done with, for the last time that is known: then the app containers had to run.

    A pod that ends before has no app containers that failed.
    """
    init = spec.init_containers(pod)
    if not init or any(has_been_tried(status) for status in apps):
        return True
    last = _by_name(inits).get(init[-1]["name"])
    if last is None:
        return False
    states = (last.get("state") or {}, last.get("lastState") or {})
    if spec.is_sidecar(init[-1]):
        return bool(states[0].get("running") and last.get("started"))
    return any(state["terminated"]["exitCode"] == 0 for state in states if state.get("terminated"))


def containers_ready(pod: Object, statuses: Sequence[Object] | None, phase: str) -> Object:
    """Whether all app containers and sidecars are ready."""
    if statuses is None:
        return make(CONTAINERS_READY, False, "UnknownContainerStatuses")
    by_name = _by_name(statuses)
    unknown, unready = [], []
    watched = [c for c in spec.init_containers(pod) if spec.is_sidecar(c)] + spec.containers(pod)
    for container in watched:
        status = by_name.get(container["name"])
        if status is None:
            unknown.append(container["name"])
        elif not status.get("ready"):
            unready.append(container["name"])
    if phase == SUCCEEDED and not unknown:
        return make(CONTAINERS_READY, False, "PodCompleted")
    if phase == FAILED:
        return make(CONTAINERS_READY, False, "PodFailed")
    messages = []
    if unknown:
        messages.append(f"containers with unknown status: {_names(unknown)}")
    if unready:
        messages.append(f"containers with unready status: {_names(unready)}")
    if messages:
        return make(CONTAINERS_READY, False, "ContainersNotReady", ", ".join(messages))
    return make(CONTAINERS_READY, True)


def ready(pod: Object, of_containers: Object, present: Sequence[Object]) -> Object:
    """Whether the pod may get traffic: its containers are ready and all readiness gates are open."""
    if of_containers["status"] != "True":
        return {**of_containers, "type": READY}
    messages = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        found = meta.condition(present, kind)
        if found is None:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif found.get("status") != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {found.get("status")}')
    if messages:
        return make(READY, False, "ReadinessGatesNotReady", ", ".join(messages))
    return make(READY, True)
