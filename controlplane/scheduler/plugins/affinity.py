"""InterPodAffinity: pods that want to be near, or far from, other pods.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import MAX_SCORE, Reject, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.terms import Term


class InterPodAffinity:
    """Filter: required terms, of the pod and of the pods on the nodes. Score: preferred ones, of both."""

    name = "InterPodAffinity"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Three reasons: its affinity, its anti-affinity, and that of pods already there."""
        if pod.affinity:
            yield Reject(~self._near(pod, nodes), "node(s) didn't match pod affinity rules", final=True)
        if pod.anti_affinity:
            apart = np.zeros(nodes.capacity, np.bool_)
            for term, topology_key, _ in pod.anti_affinity:
                apart |= _domain_totals(nodes.terms.column(term), topology_key, nodes) > 0
            yield Reject(apart, "node(s) didn't match pod anti-affinity rules")
        if nodes.anti_affinity:
            namespace_labels = nodes.terms.namespace_labels(pod.namespace)
            refused = np.zeros(nodes.capacity, np.bool_)
            for topology_key, column in nodes.anti_affinity.matching(pod.namespace, pod.labels, namespace_labels):
                refused |= _domain_totals(column, topology_key, nodes) > 0
            yield Reject(refused, "node(s) didn't satisfy existing pods anti-affinity rules")

    def _near(self, pod: Pod, nodes: NodeTable) -> Mask:
        """Rows in whose domains there is, for each term, a pod that matches all the terms."""
        every = Term(
            selectors=tuple(selector for term, _ in pod.affinity for selector in term.selectors),
            namespaces=frozenset.intersection(*(term.namespaces for term, _ in pod.affinity)),
            namespace_selector=pod.affinity[0][0].namespace_selector if len(pod.affinity) == 1 else None,
        )
        same_scope = len({(term.namespaces, term.namespace_selector) for term, _ in pod.affinity}) == 1
        near, keyed, somewhere = nodes.exists.copy(), nodes.exists.copy(), False
        for term, topology_key in pod.affinity:
            counts = nodes.terms.column(every if same_scope else term)
            somewhere = somewhere or bool(counts.any())
            keyed &= nodes.labels.column(topology_key) > 0
            near &= _domain_totals(counts, topology_key, nodes) > 0
        if somewhere:
            return near & keyed
        # The first of a group of pods that want to be together has nobody to be near to.
        labels = nodes.terms.namespace_labels(pod.namespace)
        alone = all(term.matches(pod.namespace, pod.labels, labels) for term, _ in pod.affinity)
        return keyed if alone else near & keyed

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """Weights of matching pods in each row's domains, scaled from 0 (lowest) to MAX_SCORE (highest)."""
        total = np.zeros(nodes.capacity)
        for term, topology_key, weight in pod.preferred:
            total += weight * _domain_totals(nodes.terms.column(term), topology_key, nodes)
        if nodes.attraction:
            labels = nodes.terms.namespace_labels(pod.namespace)
            for topology_key, column in nodes.attraction.matching(pod.namespace, pod.labels, labels):
                total += _domain_totals(column, topology_key, nodes)
        scores = total[feasible]
        least, most = scores.min(), scores.max()
        if least == most:
            return None
        scaled: Scores = np.floor(MAX_SCORE * (scores - least) / (most - least))
        return scaled


def _domain_totals(column: NDArray[np.integer], topology_key: str, nodes: NodeTable) -> NDArray[np.float64]:
    """For each row the sum of the column over its domain; 0 for rows without the topology label."""
    domains = nodes.labels.column(topology_key)
    weights = column.astype(np.float64)
    totals: NDArray[np.float64] = np.bincount(domains, weights, nodes.labels.distinct(topology_key)).astype(np.float64)
    totals[0] = 0
    return totals[domains]
