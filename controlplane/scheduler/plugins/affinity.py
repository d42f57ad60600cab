"""InterPodAffinity: pods that want to be near, or far from, other pods.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import MAX_SCORE, Reject, Scope, Scores
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from controlplane.scheduler.terms import Counts


class InterPodAffinity:
    """Filter: required terms, of the pod and of the pods on the nodes. Score: preferred ones, of both."""

    name = "InterPodAffinity"
    scope = Scope.CLUSTER
    score_scope = Scope.CLUSTER

    def __init__(self, *, hard_weight: int = 1, ignore_preferred_of_others: bool = False) -> None:
        """`hard_weight`: what the required affinity of pods already there is worth to pods they want near them."""
        self._hard_weight = hard_weight
        self._ignore_preferred_of_others = ignore_preferred_of_others

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Three reasons: its affinity, its anti-affinity, and that of pods already there."""
        nodes, shape = rows.table, pod.shape
        if shape.affinity:
            far = ~_near(pod, nodes)[rows.index]
            yield Reject(far, "node(s) didn't match pod affinity rules", final=True)
            seen = far
        else:
            seen = rows.none()
        if shape.anti_affinity:
            apart = rows.none()
            for term, topology_key, _ in shape.anti_affinity:
                apart |= _totals(nodes.terms.column(term), topology_key, rows) > 0
            apart &= ~seen
            yield Reject(apart, "node(s) didn't match pod anti-affinity rules")
            seen = seen | apart
        if nodes.anti_affinity:
            refused = rows.none()
            namespace_labels = nodes.terms.namespace_labels(pod.namespace)
            for topology_key, column in nodes.anti_affinity.matching(shape.counted_as, namespace_labels):
                refused |= _totals(column, topology_key, rows) > 0
            yield Reject(refused & ~seen, "node(s) didn't satisfy existing pods anti-affinity rules")

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """Weights of matching pods in each row's domains, scaled from 0 (lowest) to MAX_SCORE (highest)."""
        nodes, shape = rows.table, pod.shape
        parts: list[tuple[Counts, str, int]] = []
        for term, topology_key, weight in shape.preferred:
            parts.append((nodes.terms.column(term), topology_key, weight))
        labels = nodes.terms.namespace_labels(pod.namespace)
        if nodes.preferred and not (self._ignore_preferred_of_others and not shape.preferred):
            parts += [(column, key, 1) for key, column in nodes.preferred.matching(shape.counted_as, labels)]
        if nodes.affinity and self._hard_weight:
            weight = self._hard_weight
            parts += [(column, key, weight) for key, column in nodes.affinity.matching(shape.counted_as, labels)]
        if not parts:
            return None
        scores: Scores = np.zeros(len(rows), np.int64)
        for column, topology_key, weight in parts:
            scores += weight * _totals(column, topology_key, rows)
        least, most = scores.min(), scores.max()
        if least == most:
            return None
        scaled: Scores = MAX_SCORE * (scores - least) // (most - least)
        return scaled


def _near(pod: Pod, nodes: NodeTable) -> Mask:
    """Rows in whose domains there is, for each term, a pod that matches all the terms."""
    terms = [term for term, _, _ in pod.shape.affinity]
    every = replace(terms[0], also=tuple(terms[1:])) if len(terms) > 1 else terms[0]
    counts = nodes.terms.column(every)
    rows = Rows(nodes)
    near, keyed = nodes.exists.copy(), nodes.exists.copy()
    somewhere = False
    for _, topology_key, _ in pod.shape.affinity:
        has = rows.label(topology_key) > 0
        keyed &= has
        totals = _totals(counts, topology_key, rows)
        somewhere = somewhere or bool(totals.any())
        near &= totals > 0
    if somewhere:
        return near & keyed
    # The first of a group of pods that want to be together has nobody to be near to.
    labels = nodes.terms.namespace_labels(pod.namespace)
    alone = every.matches(pod.namespace, pod.labels, labels)
    return keyed if alone else near & keyed


def _totals(column: Counts, topology_key: str, rows: Rows) -> Scores:
    """For each row the sum of the column over its domain; 0 for rows without the topology label."""
    labels = rows.table.labels
    domains = labels.column(topology_key)
    if labels.unique(topology_key):  # every node is a domain of its own, as with the hostname
        return np.where(domains[rows.index] > 0, column[rows.index], 0)
    sums = np.bincount(domains, column, labels.distinct(topology_key)).astype(np.int64)
    sums[0] = 0
    totals: Scores = sums[domains[rows.index]]
    return totals
