"""A pod's quality-of-service class, and how much its processes are to be spared when memory runs out.

Source: k8s.io/kubernetes apis/core/v1/helper/qos; kubelet's qos/policy.go; KEP-2837 (pod-level resources).
"""

from __future__ import annotations

from agent.kubelet.pods import spec
from machinery.api import podresources, quantity
from machinery.api.meta import Object

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"

_COUNTED = ("cpu", "memory")
_GUARANTEED_OOM, _BEST_EFFORT_OOM = -997, 1000


def _amounts(resources: Object | None, section: str) -> dict[str, quantity.Quantity]:
    found = (resources or {}).get(section) or {}
    return {name: quantity.parse(found[name]) for name in _COUNTED if name in found and quantity.parse(found[name])}


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    of_pod = pod["spec"].get("resources")
    if of_pod and (_amounts(of_pod, "requests") or _amounts(of_pod, "limits")):
        sets = [of_pod]
    else:
        sets = [c.get("resources") or {} for c in spec.init_containers(pod) + spec.containers(pod)]
    requests: dict[str, quantity.Quantity] = {}
    limits: dict[str, quantity.Quantity] = {}
    guaranteed = True
    for resources in sets:
        own_requests, own_limits = _amounts(resources, "requests"), _amounts(resources, "limits")
        for total, own in ((requests, own_requests), (limits, own_limits)):
            for name, amount in own.items():
                total[name] = total[name] + amount if name in total else amount
        if set(own_limits) != set(_COUNTED):
            guaranteed = False
    if not requests and not limits:
        return BEST_EFFORT
    if guaranteed:
        guaranteed = all(limits[name] == amount for name, amount in requests.items())
    return GUARANTEED if guaranteed and len(requests) == len(limits) else BURSTABLE


def oom_score_adj(pod: Object, container: Object, memory_capacity_bytes: int) -> int:
    """oom_score_adj of a container: the more of its request it uses, the sooner it is killed."""
    if int(pod["spec"].get("priority") or 0) >= spec.SYSTEM_CRITICAL_PRIORITY + 1000:  # node-critical
        return _GUARANTEED_OOM
    kind = qos_class(pod)
    if kind == GUARANTEED:
        return _GUARANTEED_OOM
    if kind == BEST_EFFORT:
        return _BEST_EFFORT_OOM
    asked = _memory_request(container)
    if any(c["name"] == container["name"] for c in spec.init_containers(pod)) and spec.is_sidecar(container):
        # A sidecar does not go before all of those that need it.
        asked = max(asked, min(_memory_request(c) for c in spec.containers(pod)))
    adjust = 1000 - (1000 * (asked + _unallocated_share(pod))) // max(memory_capacity_bytes, 1)
    if adjust < 1000 + _GUARANTEED_OOM:
        return 1000 + _GUARANTEED_OOM
    return 999 if adjust == _BEST_EFFORT_OOM else int(adjust)


def _unallocated_share(pod: Object) -> int:
    """Each container's part of the memory that the pod requests as a whole, and none of its containers does."""
    of_pod = _amounts(pod["spec"].get("resources"), "requests").get("memory")
    if of_pod is None:
        return 0
    own = {name: value for name, value in pod["spec"].items() if name not in ("resources", "overhead")}
    allocated = podresources.of_pod({**pod, "spec": own}).get("memory")
    left = of_pod.value() - (allocated.value() if allocated is not None else 0)
    return left // (len(spec.containers(pod)) + len(spec.init_containers(pod)))


def _memory_request(container: Object) -> int:
    request = _amounts(container.get("resources"), "requests").get("memory")
    return request.value() if request is not None else 0
