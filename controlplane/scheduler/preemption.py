"""Preemption: making room for a pod by evicting pods of lower priority, as few and as unimportant as possible.

Source: k8s.io/kubernetes/pkg/scheduler/framework/preemption; plugins/defaultpreemption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from controlplane.scheduler.algorithm import Ahead, failing
from controlplane.scheduler.framework import Diagnosis, Profile, Scope, told
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.fit import NodeResourcesFit
from controlplane.scheduler.plugins.spread import PodTopologySpread
from controlplane.scheduler.pod import Pod
from machinery.api import labels as label_selectors
from machinery.api.labels import Selector
from machinery.api.meta import Object, condition, is_deleting, namespace_of

_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_STARTED = "~"  # sorts after every time: a pod that has not started is the youngest


@dataclass(frozen=True)
class Candidate:
    """A row where the pod would fit if `victims`, the most important first, were gone."""

    row: int
    victims: Sequence[Pod]
    violations: int  # disruption budgets that would be broken

    @property
    def cost(self) -> tuple[int, int, int, int, str]:
        """Smaller is better: broken budgets, the most important victim, their importance in all, number, age."""
        priorities = [pod.priority for pod in self.victims]
        highest = max(priorities)
        oldest = min(_started(pod) for pod in self.victims if pod.priority == highest)
        # Later starts are better; the text is inverted so that the later of two times sorts first.
        inverted = "".join(chr(0x10FFFF - ord(c)) for c in oldest)
        return self.violations, highest, sum(p + 2**31 for p in priorities), len(priorities), inverted


@dataclass(frozen=True)
class Budget:
    """A PodDisruptionBudget, read."""

    namespace: str
    selector: Selector
    allowed: int
    disrupted: frozenset[str]

    @classmethod
    def of(cls, obj: Object) -> Budget:
        """From the object."""
        status = obj.get("status") or {}
        return cls(
            namespace_of(obj),
            label_selectors.from_selector(obj["spec"].get("selector")),
            int(status.get("disruptionsAllowed") or 0),
            frozenset(status.get("disruptedPods") or ()),
        )


@dataclass(frozen=True)
class Search:
    """What a search for candidates found; without any, why each node is none."""

    candidates: Sequence[Candidate] = ()
    reasons: dict[str, int] = field(default_factory=dict)


def ineligible(pod: Pod, nodes: NodeTable, diagnosis: Diagnosis) -> str:
    """Why the pod may not preempt now, or ""."""
    if pod.spec.get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    row = nodes.row(pod.nominated_node)
    if row is None or diagnosis.resolvable is None or not diagnosis.resolvable[row]:
        return ""
    if any(other.priority < pod.priority and _leaving(other.object) for other in nodes.pods_on(row)):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _leaving(obj: Object) -> bool:
    """Whether the pod is on its way out because a scheduler evicted it."""
    if not is_deleting(obj):
        return False
    target = condition((obj.get("status") or {}).get("conditions"), "DisruptionTarget")
    return target is not None and target.get("status") == "True" and target.get("reason") == "PreemptionByScheduler"


@dataclass(frozen=True)
class Preemptor:
    """Searches one node table on behalf of the pods of a profile."""

    profile: Profile
    nodes: NodeTable
    random: np.random.Generator

    def search(self, pod: Pod, diagnosis: Diagnosis, budgets: Iterable[Object], ahead: Ahead = ()) -> Search:
        """Candidates among the rows where removing pods can help. Leaves the table as it was."""
        rows: list[int] = [] if diagnosis.resolvable is None else np.flatnonzero(diagnosis.resolvable).tolist()
        reasons = {_NOT_HELPFUL: len(self.nodes) - len(rows)}
        if not rows:
            return Search(reasons=reasons)
        start = int(self.random.integers(len(rows)))
        wanted = max(len(rows) * self.profile.min_candidates_percentage // 100, self.profile.min_candidates)
        read = [Budget.of(budget) for budget in budgets]
        by_arithmetic = self._only_resources_matter(pod)
        candidates: list[Candidate] = []
        for row in rows[start:] + rows[:start]:
            lower = [other for other in self.nodes.pods_on(row) if other.priority < pod.priority]
            if not lower:
                reasons[_NO_VICTIMS] = reasons.get(_NO_VICTIMS, 0) + 1
                continue
            lower.sort(key=lambda other: (-other.priority, _started(other)))
            here = [(other, at) for other, at in ahead if at == row]
            room = _Room(self, pod, row) if by_arithmetic else _Trial(self, pod, row)
            found = room.without(lower, here, read)
            if isinstance(found, Candidate):
                candidates.append(found)
                if len(candidates) >= wanted and any(not each.violations for each in candidates):
                    break
            else:
                for reason in found:
                    reasons[reason] = reasons.get(reason, 0) + 1
        return Search(candidates, reasons)

    def explain(self, search: Search) -> str:
        """Why there is no candidate."""
        return told(len(self.nodes), search.reasons)

    def _only_resources_matter(self, pod: Pod) -> bool:
        """Whether of all filters only NodeResourcesFit could change its mind when pods of one node go."""
        shape, nodes = pod.shape, self.nodes
        if shape.ports or shape.volumes or pod.may_want_devices:
            return False
        if shape.affinity or shape.anti_affinity or nodes.anti_affinity:
            return False
        moving = [plugin for plugin in self.profile.filters if plugin.scope is not Scope.NODE]
        if any(isinstance(plugin, PodTopologySpread) and plugin.requires(shape) for plugin in moving):
            return False
        known = {
            "NodePorts", "VolumeRestrictions", "VolumeBinding", "VolumeZone", "NodeVolumeLimits", "DynamicResources",
            "InterPodAffinity", "PodTopologySpread",
        }  # fmt: skip
        fit = [plugin for plugin in moving if isinstance(plugin, NodeResourcesFit)]
        return len(fit) == 1 and all(plugin in fit or plugin.name in known for plugin in moving)


FitsWith = Callable[[Pod], bool]
"""Whether the pod fits although this one stays as well; if so, it is spared."""

Found = Candidate | tuple[str, ...]
"""A candidate, or why the row is none."""


@dataclass(frozen=True)
class _Trial:
    """Tries a row by taking pods out of the table and asking every filter."""

    preemptor: Preemptor
    pod: Pod
    row: int

    def without(self, lower: Sequence[Pod], ahead: Ahead, budgets: Sequence[Budget]) -> Found:
        nodes = self.preemptor.nodes
        with nodes.without([other.key for other in lower]), nodes.with_pods(ahead):
            refused = self._refusal()
            if refused:
                return refused
            spared: list[tuple[Pod, int]] = []

            def fits_with(other: Pod) -> bool:
                with nodes.with_pods([*spared, (other, self.row)]):
                    fine = not self._refusal()
                if fine:
                    spared.append((other, self.row))
                return fine

            return _spare(self.row, lower, budgets, fits_with)

    def _refusal(self) -> tuple[str, ...]:
        return failing(self.preemptor.profile, self.pod, self.preemptor.nodes, self.row)


@dataclass(frozen=True)
class _Room:
    """Tries a row by adding and subtracting, when nothing but resources matters."""

    preemptor: Preemptor
    pod: Pod
    row: int

    def without(self, lower: Sequence[Pod], ahead: Ahead, budgets: Sequence[Budget]) -> Found:
        nodes, asked = self.preemptor.nodes, self.pod.shape.asked
        free = {
            column: int(nodes.allocatable[column, self.row] - nodes.requested[column, self.row]) for column in asked
        }
        for other in lower:
            self._take(free, other, 1)
        for other, _ in ahead:
            self._take(free, other, -1)
        fit = next(p for p in self.preemptor.profile.filters if isinstance(p, NodeResourcesFit))
        short = tuple(fit.reason(nodes, c) for c, n in asked.items() if free[c] < n and not fit.ignores(nodes, c))
        if short:
            return short
        matter = [column for column in asked if not fit.ignores(nodes, column)]

        def fits_with(other: Pod) -> bool:
            self._take(free, other, -1)
            fine = all(free[column] >= asked[column] for column in matter)
            if not fine:
                self._take(free, other, 1)
            return fine

        return _spare(self.row, lower, budgets, fits_with)

    @staticmethod
    def _take(free: dict[int, int], other: Pod, sign: int) -> None:
        theirs = other.shape.asked
        for column in free:
            free[column] += sign * theirs.get(column, 0)


def _spare(row: int, lower: Sequence[Pod], budgets: Sequence[Budget], fits_with: FitsWith) -> Candidate:
    """Spare whom we can, those under a broken budget first, then the most important."""
    violating, harmless = _by_budget(lower, budgets)
    victims: list[Pod] = []
    violations = 0
    for other in violating:
        if not fits_with(other):
            victims.append(other)
            violations += 1
    victims += [other for other in harmless if not fits_with(other)]
    victims.sort(key=lambda other: (-other.priority, _started(other)))
    return Candidate(row, victims, violations)


def _by_budget(pods: Sequence[Pod], budgets: Sequence[Budget]) -> tuple[list[Pod], list[Pod]]:
    """(pods whose eviction breaks a PodDisruptionBudget, the others), in the order given."""
    left = [budget.allowed for budget in budgets]
    violating: list[Pod] = []
    harmless: list[Pod] = []
    for pod in pods:
        broken = False
        for index, budget in enumerate(budgets):
            if budget.namespace != pod.namespace or not pod.labels or pod.name in budget.disrupted:
                continue
            if budget.selector.requirements and budget.selector.matches(pod.labels):
                left[index] -= 1
                broken = broken or left[index] < 0
        (violating if broken else harmless).append(pod)
    return violating, harmless


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The one whose victims matter least."""
    return min(candidates, key=lambda candidate: candidate.cost)


def _started(pod: Pod) -> str:
    return str((pod.object.get("status") or {}).get("startTime") or _NOT_STARTED)
