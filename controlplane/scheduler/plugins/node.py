"""Filters and scores that compare a pod with the node itself: name, readiness, taints, labels, ports, images.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/{nodename,nodeunschedulable,tainttoleration,nodeaffinity,
nodeports,imagelocality}; component-helpers/scheduling/corev1/nodeaffinity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from controlplane.scheduler.columns import NAME_FIELD, Mask, tolerates
from controlplane.scheduler.framework import MAX_SCORE, PodUnschedulable, Reject, Scope, Scores, normalized
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod, Shape
from controlplane.scheduler.rows import Rows
from machinery.api.meta import Object

_MIB = 1024 * 1024
_IMAGE_MIN_BYTES, _IMAGE_MAX_BYTES = 23 * _MIB, 1000 * _MIB
_UNSCHEDULABLE = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
UNBEARABLE = ("NoSchedule", "NoExecute")
"""Effects of taints that keep pods away."""


class NodeUnschedulable:
    """Nodes that are cordoned."""

    name = "NodeUnschedulable"
    scope = Scope.NODE

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Cordoned rows, unless the pod tolerates the taint that goes with it."""
        if rows.unschedulable.any() and not any(tolerates(t, _UNSCHEDULABLE) for t in pod.shape.tolerations):
            yield Reject(rows.unschedulable, "node(s) were unschedulable", final=True)


class NodeName:
    """Pods that name their node (and still come to the scheduler)."""

    name = "NodeName"
    scope = Scope.NODE

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Every row but the named one."""
        if pod.node_name:
            yield Reject(rows.not_named([pod.node_name]), "node(s) didn't match the requested node name", final=True)


class TaintToleration:
    """Taints keep pods away that do not tolerate them; PreferNoSchedule ones only make a node worse."""

    name = "TaintToleration"
    scope = Scope.NODE
    score_scope = Scope.CLUSTER

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows with a NoSchedule or NoExecute taint that the pod does not tolerate."""
        unbearable = rows.table.taints.untolerated(pod.shape.tolerations, UNBEARABLE)
        if unbearable:
            having = rows.table.taints.having_any(unbearable, rows.index)
            yield Reject(having, "node(s) had untolerated taint(s)", final=True)

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """The fewer taints the pod would rather avoid, the better."""
        tolerations = [t for t in pod.shape.tolerations if t.get("effect") in (None, "", "PreferNoSchedule")]
        avoided = rows.table.taints.untolerated(tolerations, ("PreferNoSchedule",))
        return normalized(rows.table.taints.counts(avoided, rows.index), reverse=True) if avoided else None


class NodeAffinity:
    """nodeSelector and node affinity, and an affinity that the profile adds to every pod's."""

    name = "NodeAffinity"
    scope = Scope.NODE
    score_scope = Scope.CLUSTER

    def __init__(self, added: Object | None = None) -> None:
        """`added`: NodeAffinityArgs.addedAffinity."""
        added = added or {}
        self._added: Sequence[Object] | None = (added.get(_REQUIRED) or {}).get("nodeSelectorTerms")
        self._added_preferred: Sequence[Object] = added.get(_PREFERRED) or ()

    def pre_filter(self, pod: Pod, nodes: NodeTable) -> Collection[str] | None:
        """The nodes that the pod names in matchFields, if every alternative names some."""
        names: set[str] | None = None
        for term in required_terms(pod.shape) or ():
            given = _named_in(term)
            if given is None:
                return None
            names = given if names is None else names | given
        if names is not None and not names:
            raise PodUnschedulable("pod affinity terms conflict")
        return names

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows that the selector or the required affinity does not match."""
        if self._added is not None:
            unwanted = ~matches_terms(self._added, rows)
            yield Reject(unwanted, "node(s) didn't match scheduler-enforced node affinity", final=True)
            matching = required_nodes(pod.shape, rows)
            if matching is not None:
                yield Reject(~matching & ~unwanted, _NO_MATCH, final=True)
        elif (matching := required_nodes(pod.shape, rows)) is not None:
            yield Reject(~matching, _NO_MATCH, final=True)

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """The sum of the weights of the preferred terms that match."""
        preferred = [*(pod.shape.node_affinity.get(_PREFERRED) or ()), *self._added_preferred]
        if not preferred:
            return None
        total: Scores = np.zeros(len(rows), np.int64)
        for item in preferred:
            if not _empty(item["preference"]):
                total += item["weight"] * _matches_term(item["preference"], rows)
        return normalized(total)


_NO_MATCH = "node(s) didn't match Pod's node affinity/selector"


def required_terms(shape: Shape) -> Sequence[Object] | None:
    """The alternatives of the required node affinity; None if there is none."""
    terms: Sequence[Object] | None = (shape.node_affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms")
    return terms


def required_nodes(shape: Shape, rows: Rows) -> Mask | None:
    """Rows that nodeSelector and required node affinity allow; None when the pod has neither."""
    terms = required_terms(shape)
    if not shape.node_selector and terms is None:
        return None
    matching: Mask = np.ones(len(rows), np.bool_)
    for key, value in shape.node_selector.items():
        matching &= rows.matches(key, "In", [value])
    if terms is not None:
        matching &= matches_terms(terms, rows)
    return matching


def matches_terms(terms: Iterable[Object], rows: Rows) -> Mask:
    """Rows that any of the node selector terms matches; an empty term matches none."""
    any_of = rows.none()
    for term in terms:
        if not _empty(term):
            any_of |= _matches_term(term, rows)
    return any_of


def _empty(term: Object) -> bool:
    return not term.get("matchExpressions") and not term.get("matchFields")


def _named_in(term: Object) -> set[str] | None:
    """The node names that a term allows by `metadata.name In`; None if it names none."""
    names: set[str] | None = None
    for given in term.get("matchFields") or ():
        if given["key"] == NAME_FIELD and given["operator"] == "In":
            values = set(given.get("values") or ())
            names = values if names is None else names & values
    return names


def _matches_term(term: Object, rows: Rows) -> Mask:
    matching: Mask = np.ones(len(rows), np.bool_)
    for expression in term.get("matchExpressions") or ():
        matching &= rows.matches(expression["key"], expression["operator"], expression.get("values") or ())
    for given in term.get("matchFields") or ():
        if given["key"] != NAME_FIELD:
            matching[:] = False
        elif given["operator"] == "NotIn":
            matching &= rows.not_named(given.get("values") or ())
        else:
            matching &= rows.named(given.get("values") or ())
    return matching


class NodePorts:
    """Host ports are taken once."""

    name = "NodePorts"
    scope = Scope.ROW

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows where another pod has one of the host ports."""
        taken = [row for ip, protocol, port in pod.shape.ports for row in rows.table.rows_with_port(ip, protocol, port)]
        if taken:
            yield Reject(rows.marked(taken), "node(s) didn't have free ports for the requested pod ports")


class NodeDeclaredFeatures:
    """Nodes that have not said that they can do what the pod needs. Source: KEP-5328."""

    name = "NodeDeclaredFeatures"
    scope = Scope.NODE

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows whose node lacks a feature."""
        if pod.shape.features:
            lacking = rows.none()
            for feature in pod.shape.features:
                lacking |= ~rows.marked(rows.table.declared.get(feature, ()))
            yield Reject(lacking, "node(s) didn't match Pod's required features", final=True)


class ImageLocality:
    """Nodes that have the images already, weighed by how many nodes do."""

    name = "ImageLocality"
    score_scope = Scope.CLUSTER  # how many nodes have an image bears on all of them

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """The bytes that need not be pulled, between 23 MiB and 1,000 MiB for each container."""
        sums = rows.table.images.sums(pod.shape.images)
        if sums is None:
            return None
        most = _IMAGE_MAX_BYTES * len(pod.shape.images)
        bounded = np.clip(sums[rows.index], _IMAGE_MIN_BYTES, most)
        scores: Scores = MAX_SCORE * (bounded - _IMAGE_MIN_BYTES) // (most - _IMAGE_MIN_BYTES)
        return scores
