"""containerStatuses of a pod's status: what users see of each container.

Source: kubelet's convertToAPIContainerStatuses and prober UpdatePodStatus; pod API ContainerStatus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.kubelet.container.model import CREATED, EXITED, RUNNING, UNKNOWN, Container, RuntimePod, container_id
from agent.kubelet.pods import restart, spec
from agent.kubelet.pods.allocation import RESIZABLE
from machinery.api import meta
from machinery.api.meta import Object

CONTAINER_CREATING, POD_INITIALIZING = "ContainerCreating", "PodInitializing"
STATUS_UNKNOWN = "ContainerStatusUnknown"
_NOT_LOCATED = "The container could not be located when the pod was deleted.  The container used to be Running"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container isn't running although it should: CrashLoopBackOff, ErrImagePull, …"""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What probes say of a running container id: its `started` and `ready`."""

    started: Callable[[str, str], bool] = lambda _name, _id: True
    ready: Callable[[str, str], bool] = lambda _name, _id: True


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """All that container statuses are made of, beside spec and runtime."""

    runtime_name: str
    waiting: Mapping[str, Waiting] = field(default_factory=dict)  # by container name
    readiness: Readiness = field(default_factory=Readiness)
    given: Callable[[Container], Object] | None = None  # the resources a running container has, if they can change


def api_time(nanoseconds: int) -> str | None:
    """A runtime's time as the API's; None for never."""
    return meta.format_time(datetime.fromtimestamp(nanoseconds / 1e9, UTC)) if nanoseconds > 0 else None


def app_statuses(pod: Object, runtime: RuntimePod, old: Sequence[Object], inputs: StatusInputs) -> list[Object]:
    """status.containerStatuses, by name."""
    found = _statuses(pod, runtime, old, spec.containers(pod), inputs, has_init=bool(spec.init_containers(pod)))
    return sorted(found, key=lambda status: str(status["name"]))


def init_statuses(pod: Object, runtime: RuntimePod, old: Sequence[Object], inputs: StatusInputs) -> list[Object]:
    """status.initContainerStatuses, in the order of the spec."""
    containers = spec.init_containers(pod)
    return _statuses(pod, runtime, old, containers, inputs, has_init=bool(containers), init=True)


def ephemeral_statuses(pod: Object, runtime: RuntimePod, old: Sequence[Object], inputs: StatusInputs) -> list[Object]:
    """status.ephemeralContainerStatuses."""
    containers = spec.ephemeral_containers(pod)
    inputs = dataclasses.replace(inputs, given=None)
    return _statuses(pod, runtime, old, containers, inputs, has_init=bool(spec.init_containers(pod)))


def _statuses(
    pod: Object,
    runtime: RuntimePod,
    old: Sequence[Object],
    containers: Sequence[Object],
    inputs: StatusInputs,
    *,
    has_init: bool,
    init: bool = False,
) -> list[Object]:
    before = {status["name"]: status for status in old}
    made = []
    for container in containers:
        previous = before.get(container["name"])
        seen = runtime.containers_of(container["name"])
        resizable = not init or spec.is_sidecar(container)
        status = _from_runtime(container, seen, previous, inputs, resizable=resizable) if seen else None
        if status is None:
            status = _without_runtime(pod, container, previous, has_init)
        status = _with_waiting(pod, container, runtime, status, inputs, init=init)
        made.append(_with_probes(container, status, inputs, init=init))
    return made


def _blank(container: Object) -> Object:
    return {"name": container["name"], "state": {}, "lastState": {}, "ready": False, "restartCount": 0}


def _without_runtime(pod: Object, container: Object, previous: Object | None, has_init: bool) -> Object:
    status = _blank(container) | {"image": container.get("image", ""), "imageID": ""}
    status["state"] = {"waiting": {"reason": POD_INITIALIZING if has_init else CONTAINER_CREATING}}
    mounts = _mount_statuses(container)
    if mounts:
        status["volumeMounts"] = mounts
    if previous is None:
        return status
    if previous.get("state", {}).get("terminated"):
        return dict(previous)
    status["restartCount"] = previous.get("restartCount", 0)
    status["lastState"] = previous.get("lastState") or {}
    if previous.get("state", {}).get("running") and not status["lastState"].get("terminated"):
        # It ran when we last looked, and is gone without a trace.
        status["lastState"] = {
            "terminated": {
                "exitCode": 137,
                "reason": STATUS_UNKNOWN,
                "message": _NOT_LOCATED,
                "startedAt": None,
                "finishedAt": None,
            }
        }
        if not meta.is_deleting(pod):
            status["restartCount"] += 1
    return status


def _from_runtime(
    container: Object, seen: Sequence[Container], previous: Object | None, inputs: StatusInputs, *, resizable: bool
) -> Object:
    newest = seen[0]
    status = _blank(container)
    status["image"] = newest.image or container.get("image", "")
    status["imageID"] = newest.image_ref
    status["containerID"] = container_id(inputs.runtime_name, newest)
    status["restartCount"] = newest.restart_count
    status["state"] = _state(newest, previous, inputs)
    if newest.state == UNKNOWN and "terminated" in status["state"] and previous is not None:
        status["restartCount"] = previous.get("restartCount", 0) + 1
    if len(seen) > 1:
        status["lastState"] = _state(seen[1], None, inputs)
    elif previous is not None and previous.get("containerID") == status["containerID"]:
        # The one before may have been removed; users go on seeing how it ended.
        status["lastState"] = previous.get("lastState") or {}
    mounts = _mount_statuses(container)
    if mounts:
        status["volumeMounts"] = mounts
    if inputs.given is not None and resizable:
        _set_resources(status, container.get("resources") or {}, newest, inputs.given)
    if newest.user is not None and newest.state == RUNNING:
        status["user"] = {"linux": _user(newest.user)}
    return status


def _set_resources(status: Object, promised: Object, newest: Container, given: Callable[[Container], Object]) -> None:
    shown = {name: dict(promised[name]) for name in ("limits", "requests") if promised.get(name)}
    if newest.state == RUNNING:
        has = given(newest)
        for section, amounts in shown.items():
            amounts.update({n: a for n, a in (has.get(section) or {}).items() if n in amounts and n in RESIZABLE})
    if promised.get("claims"):
        shown["claims"] = promised["claims"]
    status["resources"] = shown
    if promised.get("requests"):
        status["allocatedResources"] = promised["requests"]


def _user(user: Any) -> Object:
    shown: Object = {"uid": user.uid, "gid": user.gid}
    if user.supplemental_groups:
        shown["supplementalGroups"] = list(user.supplemental_groups)
    return shown


def _mount_statuses(container: Object) -> list[Object]:
    made = []
    for mount in container.get("volumeMounts") or ():
        entry: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            entry["readOnly"] = True
            enabled = mount.get("recursiveReadOnly") == "Enabled"
            entry["recursiveReadOnly"] = "Enabled" if enabled else "Disabled"
        made.append(entry)
    return made


def _state(container: Container, previous: Object | None, inputs: StatusInputs) -> Object:
    if container.state == RUNNING:
        return {"running": {"startedAt": api_time(container.started_at)}}
    if container.state == EXITED:
        ended: Object = {"exitCode": container.exit_code}
        if container.reason:
            ended["reason"] = container.reason
        if container.message:
            ended["message"] = container.message
        ended["startedAt"] = api_time(container.started_at)
        ended["finishedAt"] = api_time(container.finished_at)
        ended["containerID"] = container_id(inputs.runtime_name, container)
        return {"terminated": ended}
    if container.state == UNKNOWN and previous is not None and previous.get("state", {}).get("running"):
        return {
            "terminated": {
                "exitCode": 137,
                "reason": STATUS_UNKNOWN,
                "message": _NOT_LOCATED,
                "startedAt": None,
                "finishedAt": None,
            }
        }
    if container.state == CREATED:
        return {"waiting": {"reason": CONTAINER_CREATING}}
    return {"waiting": {}}


def _with_waiting(
    pod: Object, container: Object, runtime: RuntimePod, status: Object, inputs: StatusInputs, *, init: bool
) -> Object:
    """A container that failed to start, or is kept from starting again, is shown as waiting, with the reason."""
    waiting = inputs.waiting.get(container["name"])
    if waiting is None or status["state"].get("running"):
        return status
    newest = runtime.container(container["name"])
    if (
        init
        and not spec.is_sidecar(container)
        and newest is not None
        and newest.state == EXITED
        and not newest.exit_code
    ):
        return status
    if not restart.should_start(pod, container, runtime):
        return status
    shown = dict(status)
    if status["state"].get("terminated"):
        shown["lastState"] = status["state"]
    shown["state"] = {"waiting": {"reason": waiting.reason} | ({"message": waiting.message} if waiting.message else {})}
    return shown


def _with_probes(container: Object, status: Object, inputs: StatusInputs, *, init: bool) -> Object:
    running = bool(status["state"].get("running"))
    name, own_id = container["name"], str(status.get("containerID", "")).rpartition("/")[2]
    started = running and inputs.readiness.started(name, own_id)
    if init and not spec.is_sidecar(container):
        ended = status["state"].get("terminated")
        ready = bool(ended) and ended["exitCode"] == 0
        started = False
    else:
        ready = started and inputs.readiness.ready(name, own_id)
    return {**status, "started": started, "ready": ready}
