"""What a scheduling plugin is.

A plugin is a set of pure functions over many nodes at once. A filter says which rows a pod can't go to, and why; a
score gives every row a number. Nothing here loops over nodes.

    class NoFridays:
        name = "NoFridays"
        scope = Scope.NODE
        def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
            yield Reject(rows.matches("day", "In", ["friday"]), "node(s) were closed on Fridays")

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/ (extension points and messages).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from machinery.errors import NavarchError

MAX_SCORE = 100
Scores = NDArray[np.int64]


class Scope(enum.Enum):
    """What an answer about a row depends on, besides the pod's shape: when it must be worked out again."""

    NODE = "the node object"
    ROW = "the node and the pods on it"
    CLUSTER = "anything"


class PodUnschedulable(NavarchError):
    """Raised before any node is looked at when the pod can go nowhere, such as for a missing claim.

    `waits_on`: further plugins whose events may help.
    """


@dataclass(frozen=True, slots=True)
class Reject:
    """Rows that can't take the pod, and the reason users read.

    `final`: no removal of other pods would help, so preemption need not look at these rows.
    """

    rows: Mask
    reason: str
    final: bool = False


class Plugin(Protocol):
    """What every plugin has."""

    @property
    def name(self) -> str:
        """As in the configuration file."""
        ...


@runtime_checkable
class PreFilter(Plugin, Protocol):
    """Looks at the pod before any node."""

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """The only node names that come into question; None: all. Raises PodUnschedulable."""
        ...


@runtime_checkable
class Filter(Plugin, Protocol):
    """Says where a pod can't go."""

    @property
    def scope(self) -> Scope:
        """What the answer depends on."""
        ...

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """The rows to rule out, one Reject for each reason."""
        ...


@runtime_checkable
class Score(Plugin, Protocol):
    """Says where a pod had better go."""

    @property
    def score_scope(self) -> Scope:
        """What the answer depends on; CLUSTER scores see the feasible rows only, and may compare them."""
        ...

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """0 to MAX_SCORE for each row; None if it has no preference among them."""
        ...


@runtime_checkable
class Gate(Plugin, Protocol):
    """Keeps pods out of the queue of those that are tried."""

    def gate(self, pod: Pod) -> str | None:
        """Why the pod must not be tried yet, or None."""
        ...


@runtime_checkable
class Reserve(Plugin, Protocol):
    """Does something for a pod between the choice of its node and its binding."""

    def reserve(self, pod: Pod, node_name: str) -> bool:
        """Note what the pod will take; True if `before_binding` has something to do. Raises NavarchError."""
        ...

    async def before_binding(self, pod: Pod, node_name: str) -> None:
        """Make it so. Raises NavarchError when the pod must be scheduled again."""
        ...

    async def unreserve(self, pod: Pod, node_name: str) -> None:
        """The pod will not be bound after all. Never raises."""
        ...


Remedy = Callable[[], Awaitable[None]]
"""Something to do that may help. Raises NavarchError."""


@runtime_checkable
class Afterthought(Plugin, Protocol):
    """Has something to say when a pod fits nowhere, before preemption is tried."""

    def when_unschedulable(self, pod: Pod) -> tuple[str, Remedy | None]:
        """(what users read, what to do about it if anything)."""
        ...


@dataclass(frozen=True)
class Profile:
    """The plugins that schedule the pods of one schedulerName, in order."""

    name: str
    pre_filters: Sequence[PreFilter] = ()
    filters: Sequence[Filter] = ()
    scores: Sequence[tuple[Score, int]] = ()  # with weights
    gates: Sequence[Gate] = ()
    reserves: Sequence[Reserve] = ()
    afterthoughts: Sequence[Afterthought] = ()
    preemption: bool = True
    min_candidates_percentage: int = 10
    min_candidates: int = 100

    @cached_property
    def local_filters(self) -> tuple[Filter, ...]:
        """Filters whose answers are remembered for each row."""
        return tuple(plugin for plugin in self.filters if plugin.scope is not Scope.CLUSTER)

    @cached_property
    def cluster_filters(self) -> tuple[Filter, ...]:
        """Filters that are asked every time."""
        return tuple(plugin for plugin in self.filters if plugin.scope is Scope.CLUSTER)

    @cached_property
    def local_scores(self) -> tuple[tuple[Score, int], ...]:
        """Scores that are remembered for each row."""
        return tuple((plugin, weight) for plugin, weight in self.scores if plugin.score_scope is not Scope.CLUSTER)

    @cached_property
    def cluster_scores(self) -> tuple[tuple[Score, int], ...]:
        """Scores that are asked every time."""
        return tuple((plugin, weight) for plugin, weight in self.scores if plugin.score_scope is Scope.CLUSTER)


@dataclass(frozen=True)
class Diagnosis:
    """Why a pod fits nowhere: how many nodes each reason rules out, by which plugins, and where preemption may help."""

    nodes: int
    reasons: dict[str, int] = field(default_factory=dict)
    plugins: frozenset[str] = frozenset()
    resolvable: Mask | None = None
    pre_filter: str = ""  # a reason that is not one of nodes: a missing claim
    asked_claims: bool = True  # whether DynamicResources had its turn before the pod was given up

    def message(self) -> str:
        """As upstream words it in the PodScheduled condition and the FailedScheduling event."""
        if not self.nodes:
            return NO_NODES
        if self.pre_filter:
            return f"0/{self.nodes} nodes are available: {self.pre_filter}."
        return told(self.nodes, self.reasons)


NO_NODES = "no nodes available to schedule pods"


def told(nodes: int, reasons: dict[str, int]) -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 …`: sorted as texts."""
    head = f"0/{nodes} nodes are available:"
    parts = sorted(f"{count} {reason}" for reason, count in reasons.items() if count)
    return f"{head} {', '.join(parts)}." if parts else head


def normalized(scores: Scores, *, reverse: bool = False) -> Scores:
    """Scaled so that the highest is MAX_SCORE. Source: framework/plugins/helper DefaultNormalizeScore."""
    highest = scores.max(initial=0)
    if highest == 0:
        return np.full_like(scores, MAX_SCORE) if reverse else scores
    scaled: Scores = scores * MAX_SCORE // highest
    return MAX_SCORE - scaled if reverse else scaled
