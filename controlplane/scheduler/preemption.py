"""Preemption: making room for a pod by evicting pods of lower priority, as few and as unimportant as possible.

Source: k8s.io/kubernetes/pkg/scheduler/framework/preemption; DefaultPreemption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler.framework import Diagnosis, Profile, fits
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from machinery.api import labels as label_selectors
from machinery.api.meta import Object, is_deleting, name_of, namespace_of

_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_HEAD = "no new claims to deallocate, preemption:"

_MIN_CANDIDATES = 100


@dataclass(frozen=True)
class Candidate:
    """A row where the pod would fit if `victims` were gone."""

    row: int
    victims: Sequence[Pod]
    violations: int  # disruption budgets that would be broken

    @property
    def cost(self) -> tuple[int, int, int, int, str]:
        """Smaller is better: broken budgets, the most important victim, their importance in all, number, age."""
        priorities = [pod.priority for pod in self.victims]
        oldest = min((_started(pod) for pod in self.victims if pod.priority == max(priorities)), default="")
        # Later starts are better; digits are inverted so that the later of two times sorts first.
        return (
            self.violations,
            max(priorities),
            sum(p + 2**31 for p in priorities),
            len(priorities),
            _inverted(oldest),
        )


@dataclass(frozen=True)
class Outcome:
    """What preemption found: a candidate, or the text that explains why there is none."""

    candidate: Candidate | None
    message: str = ""


def preempt(
    profile: Profile,
    pod: Pod,
    nodes: NodeTable,
    diagnosis: Diagnosis,
    budgets: Iterable[Object],
    random: np.random.Generator,
) -> Outcome:
    """The best candidate among the rows where removing pods can help. Leaves the table as it was."""
    if pod.spec.get("preemptionPolicy") == "Never":
        return Outcome(None, f"{_HEAD} not eligible due to preemptionPolicy=Never.")
    nominated = nodes.row((pod.object.get("status") or {}).get("nominatedNodeName") or "")
    if nominated is not None and any(
        is_deleting(other.object) and other.priority < pod.priority for other in nodes.pods_on(nominated)
    ):
        return Outcome(None, f"{_HEAD} not eligible due to a terminating pod on the nominated node.")
    rows = np.flatnonzero(diagnosis.resolvable) if diagnosis.resolvable is not None else np.zeros(0, np.int64)
    random.shuffle(rows)
    limit = max(_MIN_CANDIDATES, len(nodes) // 10)
    counts = {_NOT_HELPFUL: len(nodes) - len(rows), _NO_VICTIMS: 0}
    allowed = [(budget, _allowed(budget)) for budget in budgets]
    candidates: list[Candidate] = []
    for row in rows.tolist():
        candidate = _candidate(profile, pod, nodes, row, allowed)
        if candidate is None:
            counts[_NO_VICTIMS] += 1
        else:
            candidates.append(candidate)
            if len(candidates) >= limit:
                break
    if candidates:
        return Outcome(min(candidates, key=lambda c: c.cost))
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items() if count))
    return Outcome(None, f"{_HEAD} 0/{len(nodes)} nodes are available: {told}.")


def _candidate(
    profile: Profile, pod: Pod, nodes: NodeTable, row: int, budgets: list[tuple[Object, int]]
) -> Candidate | None:
    lower = [other for other in nodes.pods_on(row) if other.priority < pod.priority]
    if not lower:
        return None
    lower.sort(key=lambda other: (-other.priority, _started(other)))
    violating, harmless = _by_budget(lower, budgets)
    victims: list[Pod] = []
    violations = 0
    removed = {other.key for other in lower}
    with nodes.without(list(removed)):
        if not fits(profile, pod, nodes, row):
            return None
        # Spare whom we can, those under a broken budget first, then the most important.
        spared: list[tuple[Pod, int]] = []
        for other in [*violating, *harmless]:
            with nodes.with_pods([*spared, (other, row)]):
                fine = fits(profile, pod, nodes, row)
            if fine:
                spared.append((other, row))
            else:
                victims.append(other)
                violations += other in violating
    return Candidate(row, victims, violations) if victims else None


def _by_budget(pods: Sequence[Pod], budgets: list[tuple[Object, int]]) -> tuple[list[Pod], list[Pod]]:
    """(pods whose eviction breaks a PodDisruptionBudget, the others), in the order given."""
    left = [allowed for _, allowed in budgets]
    violating: list[Pod] = []
    harmless: list[Pod] = []
    for pod in pods:
        broken = False
        for index, (budget, _) in enumerate(budgets):
            if namespace_of(budget) != pod.namespace or not pod.labels:
                continue
            selector = label_selectors.from_selector(budget["spec"].get("selector"))
            disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
            if selector.requirements and selector.matches(pod.labels) and pod.name not in disrupted:
                left[index] -= 1
                broken = broken or left[index] < 0
        (violating if broken else harmless).append(pod)
    return violating, harmless


def _allowed(budget: Object) -> int:
    return int((budget.get("status") or {}).get("disruptionsAllowed") or 0)


def _started(pod: Pod) -> str:
    return str((pod.object.get("status") or {}).get("startTime") or name_of(pod.object))


def _inverted(text: str) -> str:
    return "".join(chr(0x10FFFF - ord(c)) for c in text)
