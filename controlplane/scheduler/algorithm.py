"""Finding the node for a pod: every filter and every score over every node.

What a plugin says about a row is remembered for each shape of pods, and asked again for rows that have changed.

Source: k8s.io/kubernetes/pkg/scheduler/schedule_one.go (findNodesThatFitPod, prioritizeNodes).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import Diagnosis, Filter, PodUnschedulable, Profile, Scope, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows

_KEPT_STANDINGS = 128
_KEPT_FAILURES = 4096

Ahead = Sequence[tuple[Pod, int]]
"""Pods for which room is being made, with their rows: they come first."""


@dataclass(slots=True)
class Standing:
    """What the local plugins say of every row, about pods of one shape, as of a position of the table's log."""

    position: int
    out_by_node: Mask
    out_by_row: Mask
    score: Scores


class Algorithm:
    """Finds nodes in one table."""

    def __init__(self, nodes: NodeTable, random: np.random.Generator) -> None:
        self._nodes = nodes
        self._random = random
        self._standings: OrderedDict[tuple[str, int], Standing] = OrderedDict()
        self._failures: dict[tuple[str, int], tuple[int, Diagnosis]] = {}

    def find(self, profile: Profile, pod: Pod, ahead: Ahead = ()) -> tuple[int | None, Diagnosis | None]:
        """(the row for the pod, None), or (None, why there is none)."""
        left, diagnosis = self.feasible(profile, pod, ahead)
        return (None, diagnosis) if diagnosis is not None else (self.best(profile, pod, left), None)

    def feasible(self, profile: Profile, pod: Pod, ahead: Ahead = ()) -> tuple[Mask, Diagnosis | None]:
        """Rows (bool[capacity]) that pass every filter; if there are none, why."""
        nodes = self._nodes
        position = nodes.log.position
        same = (profile.name, pod.shape.number)
        known = self._failures.get(same)
        if known is not None and known[0] == position and not ahead:
            return nodes.exists, known[1]  # a pod just like it was refused, and nothing has changed since
        try:
            names, asked = self._pre_filter(profile, pod)
        except _Refused as exc:
            return nodes.exists, exc.diagnosis
        left = self._passing(profile, pod, ahead)
        if names is not None:
            left &= nodes.labels.named(names)
        if (row := nodes.row(pod.nominated_node)) is not None and left[row]:
            left[:] = False
            left[row] = True  # room was made for it there
        if left.any():
            return left, None
        diagnosis = self._diagnose(profile, pod, ahead, names, asked)
        if not ahead and not pod.shape.volumes and not pod.may_want_devices:
            if len(self._failures) >= _KEPT_FAILURES:
                self._failures.clear()
            self._failures[same] = (position, diagnosis)
        return left, diagnosis

    def best(self, profile: Profile, pod: Pod, left: Mask, extra: Scores | None = None) -> int:
        """The feasible row with the highest weighted score; one of the best by chance, so that equals share the load.

        `extra` (capacity long) is added to the scores.
        """
        feasible = np.flatnonzero(left)
        if len(feasible) == 1:
            return int(feasible[0])
        total: Scores = self._standing(profile, pod).score[feasible]
        if extra is not None:
            total += extra[feasible]
        rows = Rows(self._nodes, feasible)
        for plugin, weight in profile.cluster_scores:
            scores = plugin.score(pod, rows)
            if scores is not None:
                total += weight * scores
        best = np.flatnonzero(total == total.max())
        return int(feasible[best[self._random.integers(len(best))]])

    # -- filters -----------------------------------------------------------------------------------------------------

    def _pre_filter(self, profile: Profile, pod: Pod) -> tuple[Collection[str] | None, Sequence[str]]:
        names: set[str] | None = None
        asked: list[str] = []
        for plugin in profile.pre_filters:
            try:
                allowed = plugin.pre_filter(pod, self._nodes)
            except PodUnschedulable as exc:
                claims_asked = plugin.name == "DynamicResources"
                raise _Refused(
                    Diagnosis(
                        len(self._nodes), {}, frozenset((plugin.name,)), None, str(exc), asked_claims=claims_asked
                    )
                ) from exc
            if allowed is not None:
                names = set(allowed) if names is None else names & set(allowed)
                asked.append(plugin.name)
        return names, asked

    def _passing(self, profile: Profile, pod: Pod, ahead: Ahead) -> Mask:
        left = self._passing_now(profile, pod)
        if ahead and left.any():
            with self._nodes.with_pods(ahead):
                left &= self._passing_now(profile, pod)  # nor may it depend on pods that are not there yet
        return left

    def _passing_now(self, profile: Profile, pod: Pod) -> Mask:
        standing = self._standing(profile, pod)
        left: Mask = standing.out_by_node | standing.out_by_row
        np.logical_not(left, out=left)
        left &= self._nodes.exists
        rows = Rows(self._nodes)
        for plugin in profile.cluster_filters:
            for reject in plugin.rejects(pod, rows):
                left &= ~reject.rows
        return left

    def _standing(self, profile: Profile, pod: Pod) -> Standing:
        nodes, key = self._nodes, (profile.name, pod.shape.number)
        standing = self._standings.get(key)
        position = nodes.log.position
        if standing is None:
            self._standings[key] = standing = self._new_standing(profile, pod)
            if len(self._standings) > _KEPT_STANDINGS:
                self._standings.popitem(last=False)
            return standing
        self._standings.move_to_end(key)
        if standing.position == position:
            return standing
        changed = nodes.log.since(standing.position)
        if changed is None or len(standing.score) != nodes.capacity or len(changed) > nodes.capacity:
            self._standings[key] = standing = self._new_standing(profile, pod)
            return standing
        index = np.array(sorted(set(changed)), np.int64)
        rows = Rows(nodes, index)
        standing.out_by_node[index] = _out(profile.local_filters, Scope.NODE, pod, rows)
        standing.out_by_row[index] = _out(profile.local_filters, Scope.ROW, pod, rows)
        standing.score[index] = _local_score(profile, pod, rows)
        standing.position = position
        return standing

    def _new_standing(self, profile: Profile, pod: Pod) -> Standing:
        rows = Rows(self._nodes)
        return Standing(
            self._nodes.log.position,
            _out(profile.local_filters, Scope.NODE, pod, rows),
            _out(profile.local_filters, Scope.ROW, pod, rows),
            _local_score(profile, pod, rows),
        )

    def _diagnose(
        self, profile: Profile, pod: Pod, ahead: Ahead, names: Collection[str] | None, asked: Sequence[str]
    ) -> Diagnosis:
        nodes = self._nodes
        with ExitStack() as stack:
            if ahead:
                stack.enter_context(nodes.with_pods(ahead))
            left = nodes.exists.copy()
            reasons: dict[str, int] = {}
            plugins: set[str] = set()
            final: Mask = np.zeros(nodes.capacity, np.bool_)
            if names is not None:
                outside = left & ~nodes.labels.named(names)
                reasons[_outside(asked, names)] = int(np.count_nonzero(outside))
                plugins.update(asked)
                final |= outside
                left &= ~outside
            rows = Rows(nodes)
            for plugin in profile.filters:
                ruled_out: Mask = np.zeros(nodes.capacity, np.bool_)
                for reject in plugin.rejects(pod, rows):
                    hit = reject.rows & left
                    count = int(np.count_nonzero(hit))
                    if not count:
                        continue
                    reasons[reject.reason] = reasons.get(reject.reason, 0) + count
                    plugins.add(plugin.name)
                    ruled_out |= hit
                    if reject.final:
                        final |= hit
                left &= ~ruled_out
        return Diagnosis(len(nodes), reasons, frozenset(plugins), nodes.exists & ~final)


class _Refused(Exception):
    """The pod can go nowhere, whatever the nodes are like."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.pre_filter)
        self.diagnosis = diagnosis


def _outside(asked: Sequence[str], names: Collection[str]) -> str:
    told = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(asked))}]"
    return told if names or len(asked) < 2 else f"{told} simultaneously"


def _out(filters: Sequence[Filter], scope: Scope, pod: Pod, rows: Rows) -> Mask:
    out = rows.none()
    for plugin in filters:
        if plugin.scope is scope:
            for reject in plugin.rejects(pod, rows):
                out |= reject.rows
    return out


def _local_score(profile: Profile, pod: Pod, rows: Rows) -> Scores:
    total: Scores = np.zeros(len(rows), np.int64)
    for plugin, weight in profile.local_scores:
        scores = plugin.score(pod, rows)
        if scores is not None:
            total += weight * scores
    return total


def failing(profile: Profile, pod: Pod, nodes: NodeTable, row: int) -> tuple[str, ...]:
    """Why a row does not take the pod now: the reasons of the first filter that refuses it; () if it does."""
    rows = Rows(nodes, np.array([row], np.int64))
    for plugin in profile.filters:
        reasons = tuple(reject.reason for reject in plugin.rejects(pod, rows) if reject.rows[0])
        if reasons:
            return tuple(dict.fromkeys(reasons))
    return ()
