"""What a node's silence and its conditions mean: its health, its taints, its zone's state. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/nodelifecycle/node_lifecycle_controller.go; KEP-589 (node heartbeats).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from machinery.api.meta import Object, condition, format_time, labels_of, parse_time

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
_HEARTBEAT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_CONDITION_TAINTS: dict[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_MANAGED_NO_SCHEDULE = frozenset({*_CONDITION_TAINTS.values(), _UNSCHEDULABLE})


@dataclass(frozen=True)
class Heartbeat:
    """What was last seen of a node, and when by this process's own clock (nodes' clocks need not agree)."""

    seen_at: float  # monotonic seconds
    ready_status: str = ""
    ready_beat: str = ""  # lastHeartbeatTime of Ready
    lease_beat: str = ""  # renewTime of the Lease
    posted: bool = False  # whether the kubelet ever posted a status


def observe(last: Heartbeat | None, node: Object, lease: Object | None, now: float, age_seconds: float) -> Heartbeat:
    """The heartbeat after a look at node and Lease; `seen_at` moves only when something new was heard.

    A node that has never posted a status is counted from its creation (`age_seconds` ago).
    """
    ready = condition((node.get("status") or {}).get("conditions"), "Ready")
    lease_beat = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
    status = str(ready["status"]) if ready is not None else ""
    beat = str(ready.get("lastHeartbeatTime") or "") if ready is not None else ""
    if last is None:
        seen_at = now if ready is not None else now - age_seconds
        return Heartbeat(seen_at, status, beat, lease_beat, ready is not None)
    if ready is None:
        return replace(last, posted=False, lease_beat=lease_beat)
    fresh = not last.posted or beat != last.ready_beat or lease_beat > last.lease_beat
    return Heartbeat(now if fresh else last.seen_at, status, beat, max(lease_beat, last.lease_beat), True)


def silent_conditions(node: Object, now: datetime) -> list[Object]:
    """The conditions of a node that is silent for too long: all that heartbeats carry are Unknown."""
    stamp = format_time(now)
    conditions = [dict(c) for c in (node.get("status") or {}).get("conditions") or ()]
    for kind in _HEARTBEAT_CONDITIONS:
        present = condition(conditions, kind)
        if present is None:
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                    "lastTransitionTime": stamp,
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
        elif present["status"] != "Unknown":
            present |= {
                "status": "Unknown",
                "lastTransitionTime": stamp,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
    return conditions


def ready_status(node: Object) -> str:
    """True, False, Unknown, or "" before the first status."""
    ready = condition((node.get("status") or {}).get("conditions"), "Ready")
    return str(ready["status"]) if ready is not None else ""


# -- taints --------------------------------------------------------------------------------------------------------


def taints_of(node: Object) -> list[Object]:
    """spec.taints."""
    return list((node.get("spec") or {}).get("taints") or ())


def no_schedule_taints(node: Object) -> list[Object]:
    """The node's taints as its conditions and spec.unschedulable ask for: NoSchedule ones added and removed."""
    wanted: list[str] = []
    for item in (node.get("status") or {}).get("conditions") or ():
        key = _CONDITION_TAINTS.get((item.get("type", ""), item.get("status", "")))
        if key is not None and key not in wanted:
            wanted.append(key)
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append(_UNSCHEDULABLE)
    kept = [
        taint
        for taint in taints_of(node)
        if taint["effect"] != "NoSchedule" or taint["key"] not in _MANAGED_NO_SCHEDULE or taint["key"] in wanted
    ]
    present = {taint["key"] for taint in kept if taint["effect"] == "NoSchedule"}
    return kept + [{"key": key, "effect": "NoSchedule"} for key in wanted if key not in present]


def no_execute_taints(node: Object, taints: list[Object], now: datetime, *, may_evict: bool) -> list[Object]:
    """`taints` with those NoExecute ones that the Ready condition asks for.

    `may_evict` is False while the eviction rate of the node's zone is used up: then a taint may change or go, not come.
    """
    key = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node), "")
    managed = [t for t in taints if t["effect"] == "NoExecute" and t["key"] in (NOT_READY, UNREACHABLE)]
    others = [t for t in taints if t not in managed]
    if ready_status(node) == "":
        return taints
    if not key:
        return others if managed else taints
    if any(t["key"] == key for t in managed):
        return others + [t for t in managed if t["key"] == key]
    if not managed and not may_evict:
        return taints
    added = {"key": key, "effect": "NoExecute", "timeAdded": format_time(now)}
    return [*others, added]


def spared(node: Object) -> list[Object]:
    """The node's taints without those that evict pods because of its silence."""
    return [t for t in taints_of(node) if t["effect"] != "NoExecute" or t["key"] not in (NOT_READY, UNREACHABLE)]


_BETA_LABELS = {"beta.kubernetes.io/os": "kubernetes.io/os", "beta.kubernetes.io/arch": "kubernetes.io/arch"}


def older_labels(node: Object) -> dict[str, str]:
    """Labels that must say the same as those that took their place, where they do not."""
    labels = labels_of(node)
    return {old: labels[new] for old, new in _BETA_LABELS.items() if new in labels and labels.get(old) != labels[new]}


# -- zones ---------------------------------------------------------------------------------------------------------


class ZoneState(Enum):
    """How many of a zone's nodes are ready."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


def zone_of(node: Object) -> str:
    """Region and zone, as one name; "" for a node without."""
    labels = labels_of(node)
    region = labels.get("topology.kubernetes.io/region", labels.get("failure-domain.beta.kubernetes.io/region", ""))
    zone = labels.get("topology.kubernetes.io/zone", labels.get("failure-domain.beta.kubernetes.io/zone", ""))
    return f"{region}:\x00:{zone}" if region or zone else ""


_NO_DISRUPTION = "node.kubernetes.io/exclude-disruption"


def counts_for_zone(node: Object) -> bool:
    """Whether the node's silence tells of its zone's state."""
    return _NO_DISRUPTION not in labels_of(node)


def zone_state(nodes: Iterable[Object], threshold: float) -> ZoneState:
    """The state of a zone with these nodes."""
    states = [ready_status(node) == "True" for node in nodes]
    not_ready = states.count(False)
    if not_ready and not_ready == len(states):
        return ZoneState.FULL
    if not_ready > 2 and not_ready / len(states) >= threshold:
        return ZoneState.PARTIAL
    return ZoneState.NORMAL


@dataclass(frozen=True)
class EvictionRates:
    """--node-eviction-rate and what limits it. Nodes a second."""

    normal: float
    secondary: float
    large_cluster: int
    unhealthy_share: float

    def of(self, state: ZoneState, size: int, *, everything_down: bool) -> float:
        """The rate for a zone: none while all zones are down, as then it is the manager that is cut off."""
        if everything_down:
            return 0.0
        if state is ZoneState.PARTIAL:
            return self.secondary if size > self.large_cluster else 0.0
        return self.normal


# -- eviction ------------------------------------------------------------------------------------------------------


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a toleration lets a pod bear a taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator == "Equal":
        return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
    return _compares(operator, toleration.get("value"), taint.get("value"))


def _compares(operator: str, wanted: Any, found: Any) -> bool:
    try:
        left, right = int(found), int(wanted)
    except (TypeError, ValueError):
        return False
    return left > right if operator == "Gt" else left < right if operator == "Lt" else False


@dataclass(frozen=True)
class Stay:
    """How long a pod may stay on a node with NoExecute taints: `seconds` from `since`; None: as long as it likes."""

    seconds: float | None
    since: datetime | None = None
    """When the last of the taints came, where they tell."""


def stay_of(pod: Object, taints: Iterable[Object]) -> Stay:
    """How long the pod bears the node's NoExecute taints: the shortest of its tolerations' times; 0 if it does not."""
    evicting = [taint for taint in taints if taint["effect"] == "NoExecute"]
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    seconds: float | None = None
    since: datetime | None = None
    for taint in evicting:
        used = next((t for t in tolerations if tolerates(t, taint)), None)
        if used is None:
            return Stay(0.0)
        if used.get("tolerationSeconds") is not None:
            limit = max(0.0, float(used["tolerationSeconds"]))
            seconds = limit if seconds is None else min(seconds, limit)
            if taint.get("timeAdded"):
                added = parse_time(taint["timeAdded"])
                since = added if since is None else max(since, added)
    return Stay(seconds, since)
