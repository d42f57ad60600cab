"""What a scheduling plugin is, and how plugins together find the node for a pod.

A plugin is a set of pure functions over all nodes at once. A filter says which rows a pod can't go to, and why; a score
gives every row a number. Nothing here loops over nodes.

    class NoFridays:
        name = "NoFridays"
        def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
            yield Reject(nodes.labels.matches("day", "In", ["friday"]), "node(s) were closed on Fridays")

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/ (extension points and messages).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from machinery.errors import NavarchError

MAX_SCORE = 100
Scores = NDArray[np.float64]


class PodUnschedulable(NavarchError):
    """Raised by a filter when the pod can go nowhere, for a reason that is not one of nodes: a missing claim."""


@dataclass(frozen=True)
class Reject:
    """Rows (bool[capacity]) that can't take the pod, and the reason users read.

    `final`: no removal of other pods would help, so preemption need not look at these rows.
    """

    rows: Mask
    reason: str
    final: bool = False


class Filter(Protocol):
    """Says where a pod can't go."""

    name: str

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """The rows to rule out, one Reject for each reason."""
        ...


class Score(Protocol):
    """Says where a pod had better go."""

    name: str

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """0 to MAX_SCORE for each of the `feasible` rows (in their order); None if it has no preference."""
        ...


@dataclass(frozen=True)
class Profile:
    """The plugins that schedule the pods of one schedulerName."""

    name: str
    filters: Sequence[Filter]
    scores: Sequence[tuple[Score, int]]  # with weights


@dataclass(frozen=True)
class Diagnosis:
    """Why a pod fits nowhere: how many nodes each reason rules out, by which plugins, and where preemption may help."""

    nodes: int
    reasons: dict[str, int] = field(default_factory=dict)
    plugins: frozenset[str] = frozenset()
    resolvable: Mask | None = None
    pre_filter: str = ""  # a reason that is not one of nodes: a missing claim

    def message(self) -> str:
        """As upstream words it in the PodScheduled condition and the FailedScheduling event."""
        head = f"0/{self.nodes} nodes are available:"
        if not self.nodes:
            return "no nodes available to schedule pods"
        if self.pre_filter:
            return f"{head} {self.pre_filter}."
        return head + " " + ", ".join(sorted(f"{count} {reason}" for reason, count in self.reasons.items())) + "."


def feasible_rows(profile: Profile, pod: Pod, nodes: NodeTable) -> tuple[Mask, Diagnosis | None]:
    """Rows that pass every filter; if there are none, why."""
    left = nodes.exists.copy()
    reasons: dict[str, int] = {}
    plugins: set[str] = set()
    final = np.zeros(nodes.capacity, np.bool_)
    for plugin in profile.filters:
        ruled_out: Mask | None = None
        try:
            rejects = list(plugin.rejects(pod, nodes))
        except PodUnschedulable as exc:
            return np.zeros_like(left), Diagnosis(len(nodes), {}, frozenset((plugin.name,)), None, str(exc))
        for reject in rejects:
            hit = reject.rows & left
            count = int(np.count_nonzero(hit))
            if not count:
                continue
            reasons[reject.reason] = reasons.get(reject.reason, 0) + count
            plugins.add(plugin.name)
            if reject.final:
                final |= hit
            ruled_out = hit if ruled_out is None else ruled_out | hit
        if ruled_out is not None:
            left &= ~ruled_out
            if not left.any():
                break
    if left.any():
        return left, None
    return left, Diagnosis(len(nodes), reasons, frozenset(plugins), nodes.exists & ~final)


def fits(profile: Profile, pod: Pod, nodes: NodeTable, row: int) -> bool:
    """Whether one row passes every filter now."""
    return not any(reject.rows[row] for plugin in profile.filters for reject in plugin.rejects(pod, nodes))


def best_row(profile: Profile, pod: Pod, nodes: NodeTable, left: Mask, random: np.random.Generator) -> int:
    """The feasible row with the highest weighted score; one of the best by chance, so that equals share the load."""
    feasible = np.flatnonzero(left)
    if len(feasible) == 1:
        return int(feasible[0])
    total: Scores = np.zeros(len(feasible))
    for plugin, weight in profile.scores:
        scores = plugin.score(pod, nodes, feasible)
        if scores is not None:
            total += weight * np.floor(scores)
    best = np.flatnonzero(total == total.max())
    return int(feasible[best[random.integers(len(best))]])


def normalized(scores: Scores, *, reverse: bool = False) -> Scores:
    """Scaled so that the highest is MAX_SCORE. Source: framework/plugins/helper DefaultNormalizeScore."""
    highest = scores.max(initial=0)
    if highest == 0:
        return np.full_like(scores, MAX_SCORE) if reverse else scores
    scaled: Scores = np.floor(scores * MAX_SCORE / highest)
    return MAX_SCORE - scaled if reverse else scaled
