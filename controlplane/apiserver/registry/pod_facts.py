"""What can be read off a pod: its class of service, whether it waits for its gates.

Source: pkg/apis/core/v1/helper/qos, pkg/registry/core/pod/strategy.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import items, sub, text
from machinery.api import quantity
from machinery.api.meta import Object

GATED = {
    "type": "PodScheduled",
    "status": "False",
    "lastProbeTime": None,
    "lastTransitionTime": None,
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}
_COUNTED = ("cpu", "memory")


def _positive(amounts: Object) -> dict[str, quantity.Quantity]:
    found = {}
    for name in _COUNTED:
        try:
            amount = quantity.parse(amounts[name])
        except (KeyError, ValueError, TypeError):
            continue
        if amount.nanos > 0:
            found[name] = amount
    return found


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the requests and limits of cpu and memory."""
    if sub(spec, "resources", "requests") or sub(spec, "resources", "limits"):
        holders = [sub(spec, "resources")]
    else:
        holders = [sub(c, "resources") for c in (*items(spec, "containers"), *items(spec, "initContainers"))]
    requests: dict[str, quantity.Quantity] = {}
    limits: dict[str, quantity.Quantity] = {}
    guaranteed = True
    for holder in holders:
        for name, amount in _positive(sub(holder, "requests")).items():
            requests[name] = requests[name] + amount if name in requests else amount
        found = _positive(sub(holder, "limits"))
        for name, amount in found.items():
            limits[name] = limits[name] + amount if name in limits else amount
        guaranteed = guaranteed and len(found) == len(_COUNTED)
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and len(requests) == len(limits) and all(limits.get(k) == v for k, v in requests.items()):
        return "Guaranteed"
    return "Burstable"


def new_status(pod: Object) -> Object:
    """The status of a pod nobody has looked at yet."""
    status: Object = {"phase": "Pending", "qosClass": quality_of_service(sub(pod, "spec"))}
    if items(pod, "spec", "schedulingGates"):
        status["conditions"] = [dict(GATED)]
    return status


def grace_seconds(pod: Object, asked: int | None) -> int:
    """Seconds a pod gets to end: none if it is bound to no node, or has ended already."""
    kept = sub(pod, "spec").get("terminationGracePeriodSeconds")
    seconds = asked if asked is not None else kept if isinstance(kept, int) else 30
    if not text(pod, "spec", "nodeName") or text(pod, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    return 1 if seconds < 0 else seconds
