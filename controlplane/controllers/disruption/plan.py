"""From a budget and its pods to its status. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/disruption/disruption.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.controllers.pods import is_ready, pod_condition
from machinery.api.intstr import is_percent, scaled
from machinery.api.meta import Object, format_time, is_deleting, name_of, parse_time, set_condition

DELETION_TIMEOUT = timedelta(minutes=2)
"""How long an eviction may take to show as a deletion."""

STALE_TIMEOUT = timedelta(minutes=2)


@dataclass(frozen=True)
class Expected:
    """How many pods there should be, and how many of them healthy."""

    pods: int
    healthy: int


def needs_scale(budget: Object) -> bool:
    """Whether the budget is relative to what the pods' controllers want."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or is_percent(spec.get("minAvailable") or 0)


def expected(budget: Object, pods: int, scale: int) -> Expected:
    """`pods` is how many there are, `scale` how many their controllers want. Raises ValueError."""
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        return Expected(scale, max(0, scale - scaled(spec["maxUnavailable"], scale, round_up=True)))
    least = spec.get("minAvailable")
    if least is None:
        return Expected(0, 0)
    if is_percent(least):
        return Expected(scale, scaled(least, scale, round_up=True))
    return Expected(pods, int(least))


def still_disrupted(
    budget: Object, pods: Iterable[Object], now: datetime
) -> tuple[dict[str, str], list[Object], float | None]:
    """(pods whose eviction was granted and is awaited, pods that should be gone and are not, seconds to look again)."""
    noted: Mapping[str, str] = (budget.get("status") or {}).get("disruptedPods") or {}
    kept: dict[str, str] = {}
    overdue: list[Object] = []
    wait: float | None = None
    for pod in pods:
        since = noted.get(name_of(pod))
        if since is None or is_deleting(pod):
            continue
        left = (parse_time(since) + DELETION_TIMEOUT - now).total_seconds()
        if left < 0:
            overdue.append(pod)
            continue
        kept[name_of(pod)] = since
        wait = left if wait is None else min(wait, left)
    return kept, overdue, wait


def count_healthy(pods: Iterable[Object], disrupted: Mapping[str, str]) -> int:
    """Ready pods that are neither being deleted nor about to be."""
    return sum(is_ready(p) and not is_deleting(p) and name_of(p) not in disrupted for p in pods)


def plan_status(budget: Object, wanted: Expected, healthy: int, disrupted: Mapping[str, str], now: datetime) -> Object:
    """The budget's status."""
    allowed = max(0, healthy - wanted.healthy) if wanted.pods > 0 else 0
    reason = "SufficientPods" if allowed > 0 else "InsufficientPods"
    status = _with_condition(budget, "True" if allowed > 0 else "False", reason, "", now)
    status |= {
        "currentHealthy": healthy,
        "desiredHealthy": wanted.healthy,
        "expectedPods": wanted.pods,
        "disruptionsAllowed": allowed,
        "observedGeneration": budget["metadata"].get("generation", 0),
    }
    status.pop("disruptedPods", None)
    if disrupted:
        status["disruptedPods"] = dict(disrupted)
    return status


def failed_status(budget: Object, error: str, now: datetime) -> Object:
    """The status when it can't be told how many pods there should be: nothing may be evicted."""
    status = _with_condition(budget, "False", "SyncFailed", error, now)
    return status | {
        "disruptionsAllowed": 0,
        "observedGeneration": budget["metadata"].get("generation", 0),
        **{k: status.get(k, 0) for k in ("currentHealthy", "desiredHealthy", "expectedPods")},
    }


def _with_condition(budget: Object, verdict: str, reason: str, message: str, now: datetime) -> Object:
    status = dict(budget.get("status") or {})
    conditions = [dict(c) for c in status.get("conditions") or ()]
    told = {
        "type": "DisruptionAllowed",
        "status": verdict,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "reason": reason,
        "message": message,
    }
    set_condition(conditions, told, now=format_time(now))
    status["conditions"] = conditions
    return status


def stale_disruption(pod: Object, now: datetime) -> float | None:
    """Seconds until a DisruptionTarget condition that no deletion followed is void; None if there is none."""
    found = pod_condition(pod, "DisruptionTarget")
    if found is None or found["status"] != "True" or is_deleting(pod):
        return None
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return None
    return (parse_time(found["lastTransitionTime"]) + STALE_TIMEOUT - now).total_seconds()
