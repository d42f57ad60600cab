"""NodeResourcesFit and NodeResourcesBalancedAllocation: room on the node, and how evenly it is used.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.framework import MAX_SCORE, Reject, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.resources import PODS


class NodeResourcesFit:
    """Filter: what the pod asks for is free. Score: the emptier the better (LeastAllocated), or the fuller."""

    name = "NodeResourcesFit"

    def __init__(self, *, most_allocated: bool = False) -> None:
        self._most = most_allocated

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """One reason for each resource that is short; final where even an empty node would be too small."""
        for column, amount in pod.asked.items():
            reason = "Too many pods" if column == PODS else f"Insufficient {nodes.names.names[column]}"
            too_small = nodes.allocatable[column] < amount
            yield Reject(too_small, reason, final=True)
            yield Reject((nodes.free(column) < amount) & ~too_small, reason)

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores:
        """The mean over cpu and memory of the free (or used) share after the pod is placed."""
        used, room = _shares(pod, nodes, feasible)
        share = used if self._most else room - used
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where((room > 0) & (used <= room), np.floor(share * MAX_SCORE / room), 0)
        counted = np.count_nonzero(room > 0, axis=0)
        scores: Scores = np.floor(each.sum(axis=0) / np.maximum(counted, 1))
        return scores


class NodeResourcesBalancedAllocation:
    """Score: nodes where cpu and memory are used in like proportion."""

    name = "NodeResourcesBalancedAllocation"

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores:
        """How little the used shares of cpu and memory differ, after the pod is placed."""
        used, room = _shares(pod, nodes, feasible)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.minimum(np.where(room > 0, used / room, 0), 1)
        scores: Scores = np.floor((1 - np.abs(share[0] - share[1]) / 2) * MAX_SCORE)
        return scores


def _shares(pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> tuple[Scores, Scores]:
    """(used with the pod, allocatable), both [cpu and memory, feasible rows]."""
    used = nodes.scored[:, feasible] + np.array(pod.scored, np.int64)[:, None]
    return used.astype(np.float64), nodes.allocatable[:2, feasible].astype(np.float64)
