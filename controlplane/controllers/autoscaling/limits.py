"""How fast a recommendation may be followed: bounds, stabilisation windows, rates. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go ("normalizeDesiredReplicas…"); KEP-853.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from machinery.api.meta import Object

_UP_POLICIES = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
_DOWN_POLICIES = ({"type": "Percent", "value": 100, "periodSeconds": 15},)


@dataclass(frozen=True)
class Recommendation:
    """So many replicas were asked for at this moment (monotonic seconds)."""

    replicas: int
    at: float


@dataclass(frozen=True)
class ScaleEvent:
    """So many replicas were added (negative: removed) at this moment (monotonic seconds)."""

    change: int
    at: float


@dataclass(frozen=True)
class Rules:
    """One direction of spec.behavior, with upstream's defaults."""

    policies: tuple[Object, ...]
    select: str
    window_seconds: float

    @classmethod
    def up(cls, hpa: Object) -> Rules:
        """The rules for growing."""
        return cls._of(_behavior(hpa, "scaleUp"), _UP_POLICIES, 0.0)

    @classmethod
    def down(cls, hpa: Object, default_window_seconds: float) -> Rules:
        """The rules for shrinking."""
        return cls._of(_behavior(hpa, "scaleDown"), _DOWN_POLICIES, default_window_seconds)

    @classmethod
    def _of(cls, given: Object, policies: Iterable[Object], window: float) -> Rules:
        seconds: Any = given.get("stabilizationWindowSeconds")
        return cls(
            tuple(given.get("policies") or policies),
            str(given.get("selectPolicy") or "Max"),
            window if seconds is None else float(seconds),
        )


def _behavior(hpa: Object, direction: str) -> Object:
    found: Object = (hpa["spec"].get("behavior") or {}).get(direction) or {}
    return found


@dataclass(frozen=True)
class Verdict:
    """Replicas that may be set now, with the conditions (type, status, reason, message) that say why."""

    replicas: int
    conditions: tuple[tuple[str, str, str, str], ...]


def limit(
    hpa: Object,
    current: int,
    desired: int,
    recommendations: Iterable[Recommendation],
    events: Iterable[ScaleEvent],
    now: float,
    default_window_seconds: float,
) -> Verdict:
    """What becomes of a recommendation of `desired` replicas; `recommendations` are the earlier ones.

    Without spec.behavior older rules hold: no stabilisation of growth, which at most doubles (but up to 4) at a time.
    """
    if not hpa["spec"].get("behavior"):
        return _limit_plainly(hpa, current, desired, recommendations, now - default_window_seconds)
    up, down = Rules.up(hpa), Rules.down(hpa, default_window_seconds)
    stable, told = _stabilise(current, desired, up, down, list(recommendations), now)
    low, high = bounds_of(hpa)
    replicas, limited = _bounded(current, stable, low, high, up, down, list(events), now)
    return Verdict(replicas, (told, limited))


def bounds_of(hpa: Object) -> tuple[int, int]:
    """(minReplicas, maxReplicas)."""
    low = hpa["spec"].get("minReplicas")
    return 1 if low is None else int(low), int(hpa["spec"]["maxReplicas"])


def _limit_plainly(
    hpa: Object, current: int, desired: int, recommendations: Iterable[Recommendation], since: float
) -> Verdict:
    low, high = bounds_of(hpa)
    stable = max([desired, *(r.replicas for r in recommendations if r.at >= since)])
    told = _STABLE if stable == desired else _SCALE_DOWN_STABILISED
    most, reason, what = high, "TooManyReplicas", "more than the maximum replica count"
    if high > (ceiling := max(2 * current, 4)):
        most, reason, what = ceiling, "ScaleUpLimit", "increasing faster than the maximum scale rate"
    if stable < low:
        return Verdict(low, (told, _limited("TooFewReplicas", "less than the minimum replica count")))
    if stable > most:
        return Verdict(most, (told, _limited(reason, what)))
    return Verdict(stable, (told, _WITHIN_RANGE))


def _limited(reason: str, what: str) -> tuple[str, str, str, str]:
    return "ScalingLimited", "True", reason, f"the desired replica count is {what}"


_RECENT = "recent recommendations were {} than current one, applying the {} recent recommendation"
_STABLE = ("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
_SCALE_UP_STABILISED = ("AbleToScale", "True", "ScaleUpStabilized", _RECENT.format("lower", "lowest"))
_SCALE_DOWN_STABILISED = ("AbleToScale", "True", "ScaleDownStabilized", _RECENT.format("higher", "highest"))
_WITHIN_RANGE = ("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range")


def _stabilise(
    current: int, desired: int, up: Rules, down: Rules, earlier: list[Recommendation], now: float
) -> tuple[int, tuple[str, str, str, str]]:
    lowest = min([desired, *(r.replicas for r in earlier if now - r.at < up.window_seconds)])
    highest = max([desired, *(r.replicas for r in earlier if now - r.at < down.window_seconds)])
    stable = min(max(current, lowest), highest)
    if stable == desired:
        return stable, _STABLE
    return stable, _SCALE_UP_STABILISED if desired >= current else _SCALE_DOWN_STABILISED


def _bounded(
    current: int, desired: int, low: int, high: int, up: Rules, down: Rules, events: list[ScaleEvent], now: float
) -> tuple[int, tuple[str, str, str, str]]:
    if desired > current:
        ceiling = max(current, up_limit(current, up, events, now))
        most, reason, what = high, "TooManyReplicas", "more than the maximum replica count"
        if ceiling < high:
            most, reason, what = ceiling, "ScaleUpLimit", "increasing faster than the maximum scale rate"
        if desired > most:
            return most, _limited(reason, what)
    elif desired < current:
        floor = min(current, down_limit(current, down, events, now))
        least, reason, what = low, "TooFewReplicas", "less than the minimum replica count"
        if floor > low:
            least, reason, what = floor, "ScaleDownLimit", "decreasing faster than the maximum scale rate"
        if desired < least:
            return least, _limited(reason, what)
    return desired, _WITHIN_RANGE


def _changed(events: list[ScaleEvent], seconds: float, now: float) -> tuple[int, int]:
    """(replicas added, replicas removed) in the last so many seconds."""
    recent = [e.change for e in events if now - e.at < seconds]
    return sum(c for c in recent if c > 0), -sum(c for c in recent if c < 0)


def up_limit(current: int, rules: Rules, events: list[ScaleEvent], now: float) -> int:
    """The most replicas that the rules let there be now."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        added, removed = _changed(events, float(policy["periodSeconds"]), now)
        start = current - added + removed
        if policy["type"] == "Pods":
            proposals.append(start + int(policy["value"]))
        else:
            proposals.append(math.ceil(start * (1 + int(policy["value"]) / 100)))
    return min(proposals) if rules.select == "Min" else max(proposals)


def down_limit(current: int, rules: Rules, events: list[ScaleEvent], now: float) -> int:
    """The fewest replicas that the rules let there be now."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        added, removed = _changed(events, float(policy["periodSeconds"]), now)
        start = current + removed - added
        if policy["type"] == "Pods":
            proposals.append(start - int(policy["value"]))
        else:
            proposals.append(int(start * (1 - int(policy["value"]) / 100)))
    return max(proposals) if rules.select == "Min" else min(proposals)
