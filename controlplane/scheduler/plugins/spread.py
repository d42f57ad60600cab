"""PodTopologySpread: like pods spread evenly over zones, hosts, or whatever a node label divides.

Source: KEP-895, KEP-3022 (minDomains), KEP-3094 (inclusion policies), KEP-3243 (matchLabelKeys);
k8s.io/kubernetes/pkg/scheduler/framework/plugins/podtopologyspread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import MAX_SCORE, Reject, Scope, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.node import UNBEARABLE, required_nodes
from controlplane.scheduler.pod import Pod, Shape, Spread, spread
from controlplane.scheduler.rows import Rows
from machinery.api.labels import Selector
from machinery.api.meta import Object

_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_REASON = "node(s) didn't match pod topology spread constraints"
_KEPT_ELIGIBLE = 256

SelectorOf = Callable[[Shape], Selector | None]
"""The selector of the services and workloads that a pod belongs to, if it belongs to any."""

SYSTEM_DEFAULTS: Sequence[Object] = (
    {"maxSkew": 3, "topologyKey": _HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 5, "topologyKey": _ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
)


class PodTopologySpread:
    """Filter: DoNotSchedule constraints. Score: ScheduleAnyway ones. Of the pod, or the cluster's default ones."""

    name = "PodTopologySpread"
    scope = Scope.CLUSTER
    score_scope = Scope.CLUSTER

    def __init__(self, selector_of: SelectorOf, defaults: Sequence[Object] | None = None) -> None:
        """`selector_of` serves the default constraints: pods of one service or workload spread even if nobody asks.

        `defaults`: PodTopologySpreadArgs.defaultConstraints; None: the system's own.
        """
        self._selector_of = selector_of
        self._system_defaults = defaults is None
        self._defaults = SYSTEM_DEFAULTS if defaults is None else defaults
        self._default_kinds = {constraint["whenUnsatisfiable"] == "DoNotSchedule" for constraint in self._defaults}
        self._eligible: dict[tuple[int, str, bool, bool], tuple[tuple[int, int, int], Mask]] = {}

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows without the topology label, and rows whose domain would have too many of these pods."""
        required = self._constraints(pod.shape, required=True)
        if not required:
            return
        nodes = rows.table
        keyed = _with_all_keys(required, nodes)
        yield Reject(~keyed[rows.index], f"{_REASON} (missing required label)", final=True)
        crowded = rows.none()
        for constraint in required:
            eligible = keyed & self._counted_rows(constraint, pod.shape, nodes)
            domains = nodes.labels.column(constraint.topology_key)
            counts, present = _per_domain(constraint, domains, eligible, nodes)
            number = int(np.count_nonzero(present))
            if not number:
                continue
            fewest = 0 if number < constraint.min_domains else int(counts[present].min())
            limit = constraint.max_skew + fewest - constraint.matches_itself
            crowded |= (counts > limit)[domains[rows.index]]
        yield Reject(crowded & keyed[rows.index], _REASON)

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """The fewer like pods in a row's domains the better; rows without the labels come last."""
        wished = self._constraints(pod.shape, required=False)
        if not wished:
            return None
        nodes = rows.table
        keyed = nodes.exists
        if pod.shape.spreads or not self._system_defaults:
            keyed = _with_all_keys(wished, nodes)
        ignored = ~keyed[rows.index]
        total = np.zeros(len(rows))
        for constraint in wished:
            domains = nodes.labels.column(constraint.topology_key)
            here = domains[rows.index]
            if constraint.topology_key == _HOSTNAME:
                size = int(np.count_nonzero(~ignored))
                there = nodes.terms.column(constraint.term)[rows.index]
            else:
                size = len(np.unique(here[~ignored & (here > 0)]))
                eligible = keyed & self._counted_rows(constraint, pod.shape, nodes)
                there = _per_domain(constraint, domains, eligible, nodes)[0][here]
            points = there * np.log(size + 2) + (constraint.max_skew - 1)
            total += np.where(here > 0, points, 0)
        return _normalized(np.floor(total + 0.5).astype(np.int64), ignored)

    def requires(self, shape: Shape) -> bool:
        """Whether such pods may not go just anywhere."""
        return bool(self._constraints(shape, required=True))

    def _constraints(self, shape: Shape, *, required: bool) -> Sequence[Spread]:
        if shape.spreads:
            return [constraint for constraint in shape.spreads if constraint.required is required]
        if required not in self._default_kinds:
            return ()
        selector = self._selector_of(shape)
        if selector is None:
            return ()
        made = [spread(constraint, shape.namespace, shape.labels, selector) for constraint in self._defaults]
        return [constraint for constraint in made if constraint.required is required]

    def _counted_rows(self, constraint: Spread, shape: Shape, nodes: NodeTable) -> Mask:
        """Rows that count for the constraint: by its inclusion policies."""
        plain = not shape.node_selector and not shape.node_affinity
        if (plain or not constraint.honor_affinity) and not constraint.honor_taints:
            return nodes.exists
        key = (shape.number, constraint.topology_key, constraint.honor_affinity, constraint.honor_taints)
        version = (nodes.labels.changes, nodes.taints.changes, nodes.capacity)
        known = self._eligible.get(key)
        if known is not None and known[0] == version:
            return known[1]
        found = nodes.exists.copy()
        if constraint.honor_affinity:
            allowed = required_nodes(shape, Rows(nodes))
            if allowed is not None:
                found &= allowed
        if constraint.honor_taints:
            found &= ~nodes.taints.having_any(nodes.taints.untolerated(shape.tolerations, UNBEARABLE))
        if len(self._eligible) >= _KEPT_ELIGIBLE:
            self._eligible.clear()
        self._eligible[key] = (version, found)
        return found


def _with_all_keys(constraints: Sequence[Spread], nodes: NodeTable) -> Mask:
    found = nodes.exists.copy()
    for constraint in constraints:
        found &= nodes.labels.column(constraint.topology_key) > 0
    return found


def _per_domain(
    constraint: Spread, domains: NDArray[np.int32], eligible: Mask, nodes: NodeTable
) -> tuple[NDArray[np.int64], Mask]:
    """(matching pods in each domain, which domains there are), both indexed by the domain's number."""
    size = nodes.labels.distinct(constraint.topology_key)
    chosen = domains[eligible]
    pods = nodes.terms.column(constraint.term)[eligible]
    counts = np.bincount(chosen, weights=pods, minlength=size).astype(np.int64)
    present: Mask = np.zeros(size, np.bool_)
    present[chosen] = True
    present[0] = False
    return counts, present


def _normalized(scores: Scores, ignored: Mask) -> Scores:
    counted = scores[~ignored]
    if not len(counted):
        return np.zeros_like(scores)
    least, most = counted.min(), counted.max()
    if most == 0:
        return np.where(ignored, 0, MAX_SCORE)
    return np.where(ignored, 0, MAX_SCORE * (most + least - scores) // most)
