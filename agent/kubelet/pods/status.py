"""A pod's whole status: pure, from its spec, what the API shows of it, and what the runtime holds.

Source: kubelet's generateAPIPodStatus and status manager; pod API PodStatus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.kubelet.container.model import RuntimePod
from agent.kubelet.pods import conditions, spec
from agent.kubelet.pods.containerstatus import (
    STATUS_UNKNOWN,
    StatusInputs,
    Waiting,
    app_statuses,
    ephemeral_statuses,
    init_statuses,
)
from agent.kubelet.pods.phase import FAILED, PENDING, TERMINAL, phase_of
from agent.kubelet.pods.plan import sandbox_change
from agent.kubelet.pods.qos import qos_class
from machinery.api import meta
from machinery.api.meta import Object

_MAX_MESSAGES_BYTES = 12 * 1024  # of all containers of a pod together, as upstream


@dataclass(frozen=True, slots=True)
class Verdict:
    """A phase that something other than the containers decides: eviction, deadline, rejection."""

    reason: str
    message: str
    conditions: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class PodInputs:
    """All that a status is made of, beside spec and runtime."""

    host_ips: tuple[str, ...]
    containers: StatusInputs
    is_terminal: bool = False
    verdict: Verdict | None = None
    extra_conditions: tuple[Object, ...] = ()


def pod_status(pod: Object, runtime: RuntimePod, old: Object, inputs: PodInputs, now: str) -> Object:
    """The status to show. `old` is the last one that was made, or the API's; nothing given is changed."""
    shown: Object = pod.get("status") or {}
    status: Object = {"qosClass": shown.get("qosClass") or qos_class(pod)}
    if spec.is_static(pod) is False and pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    status["startTime"] = old.get("startTime") or shown.get("startTime") or now
    made = inputs.containers
    apps = app_statuses(pod, runtime, old.get("containerStatuses") or [], made)
    inits = init_statuses(pod, runtime, old.get("initContainerStatuses") or [], made)
    ephemerals = ephemeral_statuses(pod, runtime, old.get("ephemeralContainerStatuses") or [], made)
    _set_lists(status, apps, inits, ephemerals)
    _set_phase(pod, runtime, old, shown, status, inputs)
    _set_addresses(pod, runtime, old, status, inputs)
    _set_conditions(pod, runtime, old, shown, status, inputs, now)
    return normalized(status)


def _set_lists(status: Object, apps: list[Object], inits: list[Object], ephemerals: list[Object]) -> None:
    for name, found in (
        ("containerStatuses", apps),
        ("initContainerStatuses", inits),
        ("ephemeralContainerStatuses", ephemerals),
    ):
        if found:
            status[name] = found


def _set_phase(pod: Object, runtime: RuntimePod, old: Object, shown: Object, status: Object, inputs: PodInputs) -> None:
    statuses = _both(status)
    initialized = conditions.has_any_app_started(pod, statuses)
    phase = phase_of(pod, statuses, is_terminal=inputs.is_terminal, has_initialized=initialized)
    # Once ended, a pod stays so, whoever said it.
    phase = next((p for p in (shown.get("phase"), old.get("phase"), phase) if p in TERMINAL), phase)
    status["phase"] = phase
    if phase == old.get("phase"):
        source = old if old.get("reason") or old.get("message") else shown
        for name in ("reason", "message"):
            if source.get(name) and source.get("phase", phase) == phase:
                status[name] = source[name]
    if inputs.verdict is not None:
        if shown.get("phase") not in TERMINAL:
            status["phase"] = FAILED
        status["reason"], status["message"] = inputs.verdict.reason, inputs.verdict.message


def _both(status: Object) -> list[Object]:
    return (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])


def _set_addresses(pod: Object, runtime: RuntimePod, old: Object, status: Object, inputs: PodInputs) -> None:
    ips = runtime.ips
    if inputs.host_ips:
        status["hostIP"] = inputs.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in inputs.host_ips]
        if spec.is_host_network(pod):
            ips = inputs.host_ips
    if not ips:
        # The address is shown until the end, also after the sandbox has gone.
        ips = tuple(entry["ip"] for entry in old.get("podIPs") or ())
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]


def _set_conditions(
    pod: Object, runtime: RuntimePod, old: Object, shown: Object, status: Object, inputs: PodInputs, now: str
) -> None:
    phase, statuses = status["phase"], _both(status)
    others = [c for c in shown.get("conditions") or () if c["type"] not in conditions.OWNED]
    extra = list(inputs.extra_conditions) + list(inputs.verdict.conditions if inputs.verdict else ())
    replaced = {c["type"] for c in extra}
    others = [c for c in others if c["type"] not in replaced]
    of_containers = conditions.containers_ready(pod, statuses, phase)
    needed, _ = sandbox_change(pod, runtime)
    restarting = conditions.all_restarting(pod, runtime, phase)
    owned = [
        *extra,
        *([restarting] if restarting is not None else ()),
        conditions.ready_to_start(not needed),
        conditions.initialized(pod, statuses, phase),
        conditions.ready(pod, of_containers, others),
        of_containers,
        conditions.make(conditions.SCHEDULED, True),
    ]
    before = [*(old.get("conditions") or ()), *(shown.get("conditions") or ())]
    generation = status.get("observedGeneration")
    status["conditions"] = others + [_stamped(c, before, now, generation) for c in owned]


def _stamped(new: Object, before: Sequence[Object], now: str, generation: int | None) -> Object:
    found = meta.condition(before, new["type"])
    same = found is not None and found.get("status") == new["status"] and found.get("lastTransitionTime")
    stamped = {
        **new,
        "lastProbeTime": None,
        "lastTransitionTime": found["lastTransitionTime"] if same and found else now,
    }
    if generation is not None:
        stamped.setdefault("observedGeneration", generation)
    return stamped


def not_yet_ended(status: Object, old: Object) -> Object:
    """A status without its end: while something still runs the phase is the one before; conditions tell the news."""
    if status["phase"] not in TERMINAL or old.get("phase") in TERMINAL:
        return status
    kept = {name: value for name, value in status.items() if name not in ("reason", "message")}
    kept["phase"] = old.get("phase") or PENDING
    return kept | {name: old[name] for name in ("reason", "message") if old.get(name)}


def terminated(pod: Object, status: Object) -> Object:
    """The last status of a pod nothing of which runs any more: what had its turn is shown as ended, the phase final."""
    final = dict(status)
    inits = status.get("initContainerStatuses") or []
    if conditions.has_had_its_turn(pod, status.get("containerStatuses") or (), inits):
        final["containerStatuses"] = [_ended(s) for s in status.get("containerStatuses") or ()]
    tried = max((place for place, s in enumerate(inits) if conditions.has_been_tried(s)), default=0)
    final["initContainerStatuses"] = [_ended(s) for s in inits[: tried + 1]] + inits[tried + 1 :]
    if final.get("phase") not in TERMINAL and not spec.is_static(pod):
        final["phase"] = FAILED
    return {name: value for name, value in final.items() if value not in ([], None)}


def _ended(status: Object) -> Object:
    if status["state"].get("terminated"):
        return status
    ended = {
        "exitCode": 137,
        "reason": STATUS_UNKNOWN,
        "message": "The container could not be located when the pod was terminated",
        "startedAt": None,
        "finishedAt": None,
    }
    return {**status, "state": {"terminated": ended}, "ready": False, "started": False}


def normalized(status: Object) -> Object:
    """Cut overlong termination messages, as many as there are together, to what the API may be burdened with."""
    lists = ("containerStatuses", "initContainerStatuses")
    count = sum(len(status.get(name) or ()) for name in lists)
    if not count:
        return status
    limit = _MAX_MESSAGES_BYTES // count
    for name in lists:
        for entry in status.get(name) or ():
            for state in (entry.get("state") or {}, entry.get("lastState") or {}):
                ended = state.get("terminated")
                if ended and len((ended.get("message") or "").encode()) > limit:
                    cut = ended["message"].encode()[:limit].decode(errors="ignore")
                    state["terminated"] = {**ended, "message": cut}
    return status


__all__ = ["PodInputs", "StatusInputs", "Verdict", "Waiting", "not_yet_ended", "pod_status", "terminated"]
