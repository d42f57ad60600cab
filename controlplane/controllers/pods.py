"""What controllers ask of a pod: is it alive, ready, available; which to delete first; how one is made of a template.

Pure functions over Pod objects.

Source: k8s.io/kubernetes/pkg/controller/controller_utils.go, pkg/api/v1/pod.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cmp_to_key
from typing import Any

from machinery.api.meta import (
    Object,
    annotations_of,
    condition,
    is_deleting,
    name_of,
    owner_reference,
    parse_time,
    uid_of,
)
from machinery.api.resource import ResourceType

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

_GENERATED_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?-?")
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase_of(pod: Object) -> str:
    """status.phase, Pending when there is none yet."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_finished(pod: Object) -> bool:
    """Whether all containers have ended for good."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether the pod counts as a replica: neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleting(pod)


def is_terminating(pod: Object) -> bool:
    """Whether the pod is being deleted and its containers may still run."""
    return is_deleting(pod) and not is_finished(pod)


def node_of(pod: Object) -> str:
    """The node the pod is bound to, or ""."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def pod_condition(pod: Object, kind: str) -> Object | None:
    """The pod's condition of this type."""
    return condition((pod.get("status") or {}).get("conditions"), kind)


def is_ready(pod: Object) -> bool:
    """Whether the Ready condition is True."""
    ready = pod_condition(pod, "Ready")
    return ready is not None and ready.get("status") == "True"


def ready_since(pod: Object) -> datetime | None:
    """When the pod became ready; None if it is not, or the time is unknown."""
    ready = pod_condition(pod, "Ready")
    if ready is None or ready.get("status") != "True" or not ready.get("lastTransitionTime"):
        return None
    return parse_time(ready["lastTransitionTime"])


def seconds_until_available(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready pod has been so for `min_ready_seconds`; 0 if it has; None if it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready_seconds <= 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    """Whether the pod has been ready for at least `min_ready_seconds`."""
    return seconds_until_available(pod, min_ready_seconds, now) == 0.0


def next_availability(pods: Iterable[Object], min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available; None if no ready pod is waiting."""
    waits = (seconds_until_available(pod, min_ready_seconds, now) for pod in pods)
    return min((wait for wait in waits if wait), default=None)


def has_labels(obj_labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether every wanted label is there with its value."""
    return all(obj_labels.get(name) == value for name, value in wanted.items())


def from_template(
    template: Object, owner: Object, kind: ResourceType, *, name: str = "", owner_is_controller: bool = True
) -> Object:
    """A new pod of a pod template, controlled by `owner`; its name is generated from the owner's unless given."""
    described = template.get("metadata") or {}
    metadata: dict[str, Any] = {}
    if name:
        metadata["name"] = name
    else:
        prefix = f"{name_of(owner)}-"
        metadata["generateName"] = prefix if _GENERATED_PREFIX.fullmatch(prefix) else name_of(owner)
    for part in ("labels", "annotations"):
        if described.get(part):
            metadata[part] = dict(described[part])
    if described.get("finalizers"):
        metadata["finalizers"] = list(described["finalizers"])
    metadata["ownerReferences"] = [owner_reference(owner, kind, controller=owner_is_controller)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


def _restarts(pod: Object) -> tuple[int, int]:
    """(most restarts of a regular container, most of a restartable init container)."""
    status = pod.get("status") or {}
    sidecars = {c.get("name") for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    init = [c.get("restartCount") or 0 for c in status.get("initContainerStatuses") or () if c.get("name") in sidecars]
    regular = [c.get("restartCount") or 0 for c in status.get("containerStatuses") or ()]
    return max(regular, default=0), max(init, default=0)


def _deletion_cost(pod: Object) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _age_rank(moment: datetime, now: datetime) -> int:
    """The logarithm of an age: pods of like age rank alike, so that which one goes is left to chance (the uid)."""
    nanoseconds = (now - moment).total_seconds() * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds >= 1 else -1


def _younger_first(a: datetime | None, b: datetime | None, pod_a: Object, pod_b: Object, now: datetime) -> int:
    """Negative if the pod with moment `a` is to be deleted before that with `b`; no moment counts as youngest."""
    if a == b:
        return 0
    if a is None or b is None:
        return -1 if a is None else 1
    difference = _age_rank(a, now) - _age_rank(b, now)
    if difference:
        return difference
    return -1 if uid_of(pod_a) < uid_of(pod_b) else 1


def deletion_order(pods: Sequence[Object], now: datetime, crowding: Mapping[str, int] | None = None) -> list[Object]:
    """Pods in the order in which a scale-down deletes them.

    Unassigned before assigned, pending before running, not ready before ready, cheap (by annotation) before dear, from
    crowded nodes first (`crowding`: node name → pods of the same family there), youngest readiness, most restarts,
    youngest.
    """
    crowded = crowding or {}

    def compare(a: Object, b: Object) -> int:
        for key in (
            lambda p: bool(node_of(p)),
            lambda p: _PHASE_RANK.get(phase_of(p), 2),
            is_ready,
            _deletion_cost,
            lambda p: -crowded.get(node_of(p), 0),
        ):
            left, right = key(a), key(b)
            if left != right:
                return -1 if left < right else 1
        if is_ready(a) and (order := _younger_first(ready_since(a), ready_since(b), a, b, now)):
            return order
        restarts_a, restarts_b = _restarts(a), _restarts(b)
        if restarts_a != restarts_b:
            return -1 if restarts_a > restarts_b else 1
        return _younger_first(_created(a), _created(b), a, b, now)

    return sorted(pods, key=cmp_to_key(compare))


def _created(pod: Object) -> datetime | None:
    stamp = pod["metadata"].get("creationTimestamp")
    return parse_time(stamp) if stamp else None
