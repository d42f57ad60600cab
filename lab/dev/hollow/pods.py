"""What a hollow node would say of a pod: a pure function of the pod, the node and the time.

Containers start at once and are ready. Where the pod's restartPolicy is Always they run until it is deleted; others
(Jobs', say) end by themselves, well. Two annotations of a pod change that, so that failures can be played:

    hollow.navarch.dev/run-seconds: "5"     its containers end by themselves after so long
    hollow.navarch.dev/exit-code: "1"       and with this code (0)

Source: kubelet's status manager; pod lifecycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.kubelet.pods import conditions, restart, spec
from agent.kubelet.pods.phase import RUNNING, TERMINAL, phase_of
from machinery.api import meta
from machinery.api.meta import Object

RUN_SECONDS = "hollow.navarch.dev/run-seconds"
EXIT_CODE = "hollow.navarch.dev/exit-code"
_RESTART_SECONDS = 1.0  # at least, from one start of a container to the next


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod is: the node's address and the pod's own."""

    host_ip: str
    pod_ip: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: report a status, then delete the pod for good; look again after some seconds."""

    status: Object | None = None
    delete: bool = False
    again_seconds: float | None = None


def plan(pod: Object, place: Place, now: datetime) -> Plan:
    """The next step of a pod that is bound to a hollow node."""
    status = pod.get("status") or {}
    ended = status.get("phase") in TERMINAL
    if meta.is_deleting(pod):
        return Plan(None if ended else _status(pod, place, now, _stopped(pod, now)), delete=True)
    if ended:
        return Plan()
    wanted, again = _containers(pod, now)
    report = _status(pod, place, now, wanted)
    return Plan(None if _same(report, status) else report, again_seconds=again)


def _containers(pod: Object, now: datetime) -> tuple[list[Object], float | None]:
    """Statuses of the app containers, and when to look again."""
    seconds = _run_seconds(pod)
    before = {s["name"]: s for s in (pod.get("status") or {}).get("containerStatuses") or ()}
    found, again = [], None
    for container in spec.containers(pod):
        old = before.get(container["name"])
        running = ((old or {}).get("state") or {}).get("running")
        if old is None:
            found.append(_running(pod, container, now, 0))
            again = seconds
        elif running is None:
            found.append(old)
        elif seconds is None:
            found.append(_running(pod, container, meta.parse_time(running["startedAt"]), old["restartCount"], old))
        else:
            left = seconds - (now - meta.parse_time(running["startedAt"])).total_seconds()
            if left > 0:
                found.append(old)
                again = left if again is None else min(again, left)
                continue
            over = _over(pod, container, old, now)
            found.append(over)
            if "running" in over["state"]:
                again = max(seconds, _RESTART_SECONDS)
    return found, again


def _run_seconds(pod: Object) -> float | None:
    """How long the pod's containers run by themselves; None: until they are stopped."""
    given = _number(pod, RUN_SECONDS)
    if given is None and spec.restart_policy(pod) == "Always":
        return None
    return max(0.0, given or 0.0)


def _number(pod: Object, annotation: str) -> float | None:
    try:
        return float(meta.annotations_of(pod)[annotation])
    except (KeyError, ValueError):
        return None


def _over(pod: Object, container: Object, old: Object, now: datetime) -> Object:
    """A container that has come to its end by itself: started again if its policy says so."""
    code = int(_number(pod, EXIT_CODE) or 0)
    terminated = _terminated(old, code, now)
    if restart.restarts_after(pod, container, code):
        return _running(pod, container, now, old["restartCount"] + 1) | {"lastState": terminated["state"]}
    return terminated


def _running(pod: Object, container: Object, since: datetime, restarts: int, old: Object | None = None) -> Object:
    name = container["name"]
    return {
        "name": name,
        "image": container.get("image", ""),
        "imageID": container.get("image", ""),
        "containerID": f"hollow://{meta.uid_of(pod)}-{name}-{restarts}",
        "ready": True,
        "started": True,
        "restartCount": restarts,
        "state": {"running": {"startedAt": meta.format_time(since)}},
        "lastState": (old or {}).get("lastState") or {},
    }


def _terminated(old: Object, code: int, now: datetime) -> Object:
    running = (old.get("state") or {}).get("running") or {}
    told: dict[str, Any] = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "finishedAt": meta.format_time(now),
        "containerID": old.get("containerID", ""),
    }
    if running.get("startedAt"):
        told["startedAt"] = running["startedAt"]
    return {**old, "ready": False, "started": False, "state": {"terminated": told}}


def _stopped(pod: Object, now: datetime) -> list[Object]:
    """The app containers of a pod that is being deleted: they end, well behaved, when asked to."""
    found = []
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        done = "terminated" in (status.get("state") or {})
        found.append(status if done else _terminated(status, 0, now))
    return found


def _status(pod: Object, place: Place, now: datetime, containers: Sequence[Object]) -> Object:
    """The whole status, from those of the app containers."""
    old = pod.get("status") or {}
    stopping = meta.is_deleting(pod)
    ended = all("terminated" in (status.get("state") or {}) for status in containers)
    init = _init_statuses(pod, now, sidecars_run=not ended)
    phase = phase_of(pod, [*init, *containers], is_terminal=stopping, has_initialized=True)
    if phase == RUNNING and not containers:
        phase = old.get("phase", "Pending")
    status: Object = {
        "phase": phase,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "hostIP": place.host_ip,
        "hostIPs": [{"ip": place.host_ip}],
        "podIP": place.pod_ip,
        "podIPs": [{"ip": place.pod_ip}],
        "startTime": old.get("startTime") or meta.format_time(now),
        "containerStatuses": list(containers),
    }
    if init:
        status["initContainerStatuses"] = init
    status["conditions"] = _conditions(pod, status, now)
    return status


def _init_statuses(pod: Object, now: datetime, *, sidecars_run: bool) -> list[Object]:
    before = {s["name"]: s for s in (pod.get("status") or {}).get("initContainerStatuses") or ()}
    found = []
    for container in spec.init_containers(pod):
        old = before.get(container["name"]) or _running(pod, container, now, 0)
        if "running" in old["state"] and not (spec.is_sidecar(container) and sidecars_run):
            old = _terminated(old, 0, now) | {"ready": not spec.is_sidecar(container)}
        found.append(old)
    return found


def _conditions(pod: Object, status: Object, now: datetime) -> list[Object]:
    """Those of the kubelet, beside those that others have set."""
    phase, init, apps = status["phase"], status.get("initContainerStatuses") or [], status["containerStatuses"]
    found = [dict(c) for c in (pod.get("status") or {}).get("conditions") or ()]
    of_containers = conditions.containers_ready(pod, [*init, *apps], phase)
    for each in (
        conditions.ready_to_start(phase not in TERMINAL),
        conditions.initialized(pod, init, phase),
        conditions.ready(pod, of_containers, found),
        of_containers,
        conditions.make(conditions.SCHEDULED, True),
    ):
        old = meta.condition(found, each["type"])
        if old is not None and old.get("status") == each["status"]:  # a reason that no longer holds goes
            each = {**each, "lastTransitionTime": old["lastTransitionTime"]}
        if old is not None:
            found.remove(old)
        found.append({"lastProbeTime": None, "lastTransitionTime": meta.format_time(now), **each})
    return found


def _same(new: Object, old: Object) -> bool:
    """Whether the report says what the API server has already."""
    return all(_plain(old.get(name)) == _plain(value) for name, value in new.items())


def _plain(value: Any) -> Any:
    """Without what the API leaves out: nulls and empty maps; conditions by type."""
    if isinstance(value, dict):
        return {k: kept for k, v in value.items() if (kept := _plain(v)) not in (None, {})}
    if isinstance(value, list):
        items = [_plain(item) for item in value]
        typed = all(isinstance(item, dict) and "type" in item for item in items)
        return sorted(items, key=lambda item: str(item["type"])) if typed else items
    return value
