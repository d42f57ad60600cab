"""NodeResourcesFit and NodeResourcesBalancedAllocation: room on the node, and how evenly it is used.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources; apis/config (ScoringStrategy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler.framework import MAX_SCORE, Reject, Scope, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.resources import CPU, MEMORY, PODS, is_scalar
from controlplane.scheduler.rows import Amounts, Rows

Weights = Sequence[tuple[str, int]]
"""(resource name, weight)"""

CPU_AND_MEMORY: Weights = (("cpu", 1), ("memory", 1))


@dataclass(frozen=True)
class FitSettings:
    """NodeResourcesFitArgs."""

    strategy: str = "LeastAllocated"
    """LeastAllocated: the emptier the better; MostAllocated: the fuller; RequestedToCapacityRatio: by `shape`."""
    resources: Weights = CPU_AND_MEMORY
    shape: Sequence[tuple[int, int]] = ()
    """(utilization in percent, score 0 to 10), rising in utilization."""
    ignored_resources: frozenset[str] = frozenset()
    ignored_groups: frozenset[str] = frozenset()
    """Extended resources, and domains of them, that an extender looks after."""


class NodeResourcesFit:
    """Filter: what the pod asks for is free. Score: by the strategy."""

    name = "NodeResourcesFit"
    scope = Scope.ROW
    score_scope = Scope.ROW

    def __init__(
        self, settings: FitSettings | None = None, from_devices: Callable[[str], bool] = lambda name: False
    ) -> None:
        """`from_devices` tells of which resources nodes that do not offer them may have devices (DynamicResources)."""
        self._settings = settings or FitSettings()
        self._from_devices = from_devices
        self._score = {
            "LeastAllocated": _least_allocated,
            "MostAllocated": _most_allocated,
            "RequestedToCapacityRatio": _by_shape([(at, score * 10) for at, score in self._settings.shape]),
        }[self._settings.strategy]

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """One reason for each resource that is short; final where even an empty node would be too small."""
        for column, amount in pod.shape.asked.items():
            if self.ignores(rows.table, column):
                continue
            room = rows.allocatable(column)
            short = room - rows.requested(column) < amount
            if is_scalar(name := rows.table.names.names[column]) and self._from_devices(name):
                short &= room > 0
            if not short.any():
                continue
            reason = self.reason(rows.table, column)
            if column == PODS:
                yield Reject(short, reason)
            else:
                too_small = short & (room < amount)
                yield Reject(too_small, reason, final=True)
                yield Reject(short & ~too_small, reason)

    def reason(self, nodes: NodeTable, column: int) -> str:
        """What users read when a resource is short."""
        return "Too many pods" if column == PODS else f"Insufficient {nodes.names.names[column]}"

    def ignores(self, nodes: NodeTable, column: int) -> bool:
        """Whether somebody else looks after the resource."""
        settings, name = self._settings, nodes.names.names[column]
        if not settings.ignored_resources and not settings.ignored_groups:
            return False
        return is_scalar(name) and (name in settings.ignored_resources or name.split("/")[0] in settings.ignored_groups)

    def score(self, pod: Pod, rows: Rows) -> Scores:
        """The weighted mean of the resources' scores, after the pod is placed."""
        ratio = self._settings.strategy == "RequestedToCapacityRatio"
        total: Scores = np.zeros(len(rows), np.int64)
        weights: Scores = np.zeros(len(rows), np.int64)
        for name, weight in self._settings.resources:
            amounts = _after(pod, rows, name, scored=True)
            if amounts is None:
                continue
            used, room = amounts
            score = self._score(used, room)
            # Of a shape only resources with a score count; of the others all that the node has.
            counts = (room > 0) & (score > 0) if ratio else room > 0
            total += np.where(counts, score * weight, 0)
            weights += np.where(counts, weight, 0)
        divisor = np.maximum(weights, 1)
        if ratio:
            return np.floor(total / divisor + 0.5).astype(np.int64)
        scores: Scores = total // divisor
        return scores


def _after(pod: Pod, rows: Rows, name: str, *, scored: bool) -> tuple[Amounts, Amounts] | None:
    """(used with the pod there, allocatable) of a resource; None if it does not count for such a pod."""
    column = rows.table.names.column(name)
    if column >= len(rows.table.allocatable):
        return None  # no node has it
    if scored and column in (CPU, MEMORY):
        return rows.scored(column) + pod.shape.scored[column], rows.allocatable(column)
    asked = pod.shape.asked.get(column, 0)
    if not asked and is_scalar(name):
        return None
    return rows.requested(column) + asked, rows.allocatable(column)


def _least_allocated(used: Amounts, room: Amounts) -> Scores:
    scores: Scores = np.maximum(room - used, 0) * MAX_SCORE // np.maximum(room, 1)
    return scores


def _most_allocated(used: Amounts, room: Amounts) -> Scores:
    scores: Scores = np.minimum(used, room) * MAX_SCORE // np.maximum(room, 1)
    return scores


def _by_shape(shape: Sequence[tuple[int, int]]) -> Callable[[Amounts, Amounts], Scores]:
    """A broken line through the points, in whole numbers; fuller than full is as good as full."""

    def score(used: Amounts, room: Amounts) -> Scores:
        percent = np.where(used > room, MAX_SCORE, used * MAX_SCORE // np.maximum(room, 1))
        result: Scores = np.full(len(percent), shape[-1][1], np.int64)
        for (start, low), (end, high) in zip(reversed(shape[:-1]), reversed(shape[1:]), strict=True):
            rise = (high - low) * (percent - start)
            # Whole numbers are cut towards zero, as Go does.
            between = low + np.sign(rise) * (np.abs(rise) // (end - start))
            result = np.where(percent <= end, between, result)
        return np.where(percent <= shape[0][0], shape[0][1], result)

    return score


class NodeResourcesBalancedAllocation:
    """Score: nodes where the resources are used in like proportion."""

    name = "NodeResourcesBalancedAllocation"
    score_scope = Scope.ROW

    def __init__(self, resources: Weights = CPU_AND_MEMORY) -> None:
        self._resources = [name for name, _ in resources]

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """How much evener the pod makes the use of the resources: 75 if it changes nothing, from 50 to 100.

        Evenness is one minus the standard deviation of the used shares.
        """
        asked = [pod.shape.asked.get(rows.table.names.column(name), 0) for name in self._resources]
        if not any(asked):
            return None  # such pods would all go to one node
        before, after, counted = [], [], []
        for name, more in zip(self._resources, asked, strict=True):
            amounts = _after(pod, rows, name, scored=False)
            if amounts is None:
                continue
            used, room = amounts
            counted.append(room > 0)
            before.append(_share(used - more, room))
            after.append(_share(used, room))
        change = _evenness(after, counted) - _evenness(before, counted)
        scores: Scores = MAX_SCORE // 2 + (MAX_SCORE // 2 + change) // 2
        return scores


Shares = np.ndarray[tuple[int], np.dtype[np.float64]]


def _share(used: Amounts, room: Amounts) -> Shares:
    """How much of what there is is used; nothing where there is none."""
    share: Shares = np.where(room > 0, np.minimum(used / np.maximum(room, 1), 1.0), 0.0)
    return share


def _evenness(shares: Sequence[Shares], counted: Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]]]) -> Scores:
    if len(shares) == 2:
        deviation = np.where(counted[0] & counted[1], np.abs(shares[0] - shares[1]) / 2, 0.0)
    else:
        deviation = _deviation(np.array(shares), np.array(counted))
    even: Scores = ((1 - deviation) * MAX_SCORE).astype(np.int64)
    return even


def _deviation(
    shares: np.ndarray[tuple[int, int], np.dtype[np.float64]], counted: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    number = np.maximum(counted.sum(axis=0), 1)
    mean = shares.sum(axis=0) / number
    squares = np.where(counted, (shares - mean) ** 2, 0.0).sum(axis=0)
    deviation: np.ndarray[tuple[int], np.dtype[np.float64]] = np.sqrt(squares / number)
    return deviation
