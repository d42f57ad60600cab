"""PodTopologySpread: like pods spread evenly over zones, hosts, or whatever a node label divides.

Source: KEP-895, KEP-3022 (minDomains), KEP-3094 (inclusion policies), KEP-3243 (matchLabelKeys);
k8s.io/kubernetes/pkg/scheduler/framework/plugins/podtopologyspread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import MAX_SCORE, Reject, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.node import required_nodes
from controlplane.scheduler.pod import Pod, Spread
from controlplane.scheduler.terms import Term
from machinery.api.labels import Selector

_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_REASON = "node(s) didn't match pod topology spread constraints"

SelectorOf = Callable[[Pod], Selector | None]
"""The selector of the services and workloads that a pod belongs to, if it belongs to any."""


class PodTopologySpread:
    """Filter: DoNotSchedule constraints. Score: ScheduleAnyway ones, and the cluster's default constraints."""

    name = "PodTopologySpread"

    def __init__(self, selector_of: SelectorOf) -> None:
        """`selector_of` serves the default constraints: pods of one service or workload spread even if nobody asks."""
        self._selector_of = selector_of

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Rows without the topology label, and rows whose domain would have too many of these pods."""
        required = [constraint for constraint in pod.spreads if constraint.required]
        if not required:
            return
        keyed = _with_all_keys(required, nodes)
        yield Reject(~keyed, f"{_REASON} (missing required label)", final=True)
        crowded = np.zeros(nodes.capacity, np.bool_)
        for constraint in required:
            eligible = keyed & _eligible(constraint, pod, nodes)
            domains = nodes.labels.column(constraint.topology_key)
            counts, present = _per_domain(constraint.term, domains, eligible, nodes, constraint.topology_key)
            if not present.any():
                continue
            fewest = 0 if np.count_nonzero(present) < constraint.min_domains else int(counts[present].min())
            after = counts[domains] + constraint.matches_itself - fewest
            crowded |= after > constraint.max_skew
        yield Reject(crowded, _REASON)

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """The fewer like pods in a row's domains the better; rows without the labels come last."""
        wished = [constraint for constraint in pod.spreads if not constraint.required]
        default = not pod.spreads
        if default:
            wished = self._default(pod)
        if not wished:
            return None
        total: Scores = np.zeros(len(feasible))
        ignored = np.zeros(nodes.capacity, np.bool_) if default else ~_with_all_keys(wished, nodes)
        candidates = np.zeros(nodes.capacity, np.bool_)
        candidates[feasible] = True
        candidates &= ~ignored
        for constraint in wished:
            domains = nodes.labels.column(constraint.topology_key)
            eligible = nodes.exists & _eligible(constraint, pod, nodes) & ~ignored
            counts, _ = _per_domain(constraint.term, domains, eligible, nodes, constraint.topology_key)
            number = len(np.unique(domains[candidates & (domains > 0)]))
            weight = np.log(number + 2)
            here = counts[domains[feasible]] * weight + (constraint.max_skew - 1)
            total += np.where(domains[feasible] > 0, here, 0)
        return _normalized(np.round(total), ignored[feasible])

    def _default(self, pod: Pod) -> list[Spread]:
        """Source: podtopologyspread systemDefaultConstraints."""
        selector = self._selector_of(pod)
        if selector is None:
            return []
        term = Term((selector,), frozenset((pod.namespace,)))
        mine = selector.matches(pod.labels)
        return [
            Spread(_HOSTNAME, 3, term, False, 1, True, False, mine),
            Spread(_ZONE, 5, term, False, 1, True, False, mine),
        ]


def _with_all_keys(constraints: Sequence[Spread], nodes: NodeTable) -> Mask:
    rows = nodes.exists.copy()
    for constraint in constraints:
        rows &= nodes.labels.column(constraint.topology_key) > 0
    return rows


def _eligible(constraint: Spread, pod: Pod, nodes: NodeTable) -> Mask:
    """Rows that count for the constraint: by its inclusion policies."""
    rows = nodes.exists
    if constraint.honor_affinity:
        allowed = required_nodes(pod, nodes)
        rows = rows if allowed is None else rows & allowed
    if constraint.honor_taints:
        taints = nodes.taints.untolerated(pod.spec.get("tolerations") or (), ("NoSchedule", "NoExecute"))
        rows = rows & ~nodes.taints.having_any(taints)
    return rows


def _per_domain(
    term: Term, domains: NDArray[np.int32], eligible: Mask, nodes: NodeTable, topology_key: str
) -> tuple[NDArray[np.int64], Mask]:
    """(matching pods in each domain, which domains there are), both indexed by the domain's number."""
    size = nodes.labels.distinct(topology_key)
    chosen = domains[eligible]
    counts = np.bincount(chosen, weights=nodes.terms.column(term)[eligible], minlength=size).astype(np.int64)
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
        return np.where(ignored, 0.0, float(MAX_SCORE))
    return np.where(ignored, 0.0, np.floor(MAX_SCORE * (most + least - scores) / most))
