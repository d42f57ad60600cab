"""Filters and scores that compare a pod with the node itself: name, readiness, taints, labels, ports, images.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/{nodename,nodeunschedulable,tainttoleration,nodeaffinity,
nodeports,imagelocality}.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import NAME_FIELD, Mask, tolerates
from controlplane.scheduler.framework import MAX_SCORE, Reject, Scores, normalized
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from machinery.api.meta import Object

_MIB = 1024 * 1024
_IMAGE_MIN_BYTES, _IMAGE_MAX_BYTES = 23 * _MIB, 1000 * _MIB
_UNSCHEDULABLE = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable:
    """Nodes that are cordoned."""

    name = "NodeUnschedulable"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Cordoned rows, unless the pod tolerates the taint that goes with it."""
        if nodes.unschedulable.any() and not any(
            tolerates(t, _UNSCHEDULABLE) for t in pod.spec.get("tolerations") or ()
        ):
            yield Reject(nodes.unschedulable, "node(s) were unschedulable", final=True)


class NodeName:
    """Pods that name their node (and still come to the scheduler)."""

    name = "NodeName"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Every row but the named one."""
        if pod.node_name:
            others = nodes.labels.not_named([pod.node_name])
            yield Reject(others, "node(s) didn't match the requested node name", final=True)


class TaintToleration:
    """Taints keep pods away that do not tolerate them; PreferNoSchedule ones only make a node worse."""

    name = "TaintToleration"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Rows with a NoSchedule or NoExecute taint that the pod does not tolerate."""
        tolerations = pod.spec.get("tolerations") or ()
        unbearable = nodes.taints.untolerated(tolerations, ("NoSchedule", "NoExecute"))
        if unbearable:
            yield Reject(nodes.taints.having_any(unbearable), "node(s) had untolerated taint(s)", final=True)

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """The fewer taints the pod would rather avoid, the better."""
        tolerations = [
            t for t in pod.spec.get("tolerations") or () if t.get("effect") in (None, "", "PreferNoSchedule")
        ]
        avoided = nodes.taints.untolerated(tolerations, ("PreferNoSchedule",))
        if not avoided:
            return None
        return normalized(nodes.taints.counts(avoided)[feasible].astype(np.float64), reverse=True)


class NodeAffinity:
    """nodeSelector and node affinity."""

    name = "NodeAffinity"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Rows that the selector or the required affinity does not match."""
        matching = required_nodes(pod, nodes)
        if matching is not None:
            yield Reject(~matching, "node(s) didn't match Pod's node affinity/selector", final=True)

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """The sum of the weights of the preferred terms that match."""
        preferred = _node_affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution")
        if not preferred:
            return None
        total: Scores = np.zeros(len(feasible))
        for item in preferred:
            term = item["preference"]
            if term.get("matchExpressions") or term.get("matchFields"):
                total += item["weight"] * _matches_term(term, nodes)[feasible]
        return normalized(total)


def required_nodes(pod: Pod, nodes: NodeTable) -> Mask | None:
    """Rows that nodeSelector and required node affinity allow; None when the pod has neither."""
    selector = pod.spec.get("nodeSelector")
    terms = (_node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    if not selector and terms is None:
        return None
    matching = np.ones(nodes.capacity, np.bool_)
    for key, value in (selector or {}).items():
        matching &= nodes.labels.matches(key, "In", [value])
    if terms is not None:
        matching &= matches_terms(terms, nodes)
    return matching


def matches_terms(terms: Iterable[Object], nodes: NodeTable) -> Mask:
    """Rows that any of the node selector terms matches; an empty term matches none."""
    any_of = np.zeros(nodes.capacity, np.bool_)
    for term in terms:
        if term.get("matchExpressions") or term.get("matchFields"):
            any_of |= _matches_term(term, nodes)
    return any_of


def _node_affinity(pod: Pod) -> Object:
    affinity: Object = (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
    return affinity


def _matches_term(term: Object, nodes: NodeTable) -> Mask:
    matching = np.ones(nodes.capacity, np.bool_)
    for expression in term.get("matchExpressions") or ():
        matching &= nodes.labels.matches(expression["key"], expression["operator"], expression.get("values") or ())
    for given in term.get("matchFields") or ():
        if given["key"] != NAME_FIELD:
            matching[:] = False
        elif given["operator"] == "NotIn":
            matching &= nodes.labels.not_named(given.get("values") or ())
        else:
            matching &= nodes.labels.named(given.get("values") or ())
    return matching


class NodePorts:
    """Host ports are taken once."""

    name = "NodePorts"

    def rejects(self, pod: Pod, nodes: NodeTable) -> Iterable[Reject]:
        """Rows where another pod has one of the host ports."""
        taken = [row for ip, protocol, port in pod.ports for row in nodes.rows_with_port(ip, protocol, port)]
        if taken:
            rows = np.zeros(nodes.capacity, np.bool_)
            rows[taken] = True
            yield Reject(rows, "node(s) didn't have free ports for the requested pod ports")


class ImageLocality:
    """Nodes that have the images already, weighed by how many nodes do."""

    name = "ImageLocality"

    def score(self, pod: Pod, nodes: NodeTable, feasible: NDArray[np.int64]) -> Scores | None:
        """The bytes that need not be pulled, between 23 MiB and 1,000 MiB for each container."""
        sums: Scores | None = None
        for image in pod.images:
            rows = nodes.image_rows.get(_normalized_image(image))
            if rows:
                if sums is None:
                    sums = np.zeros(nodes.capacity)
                spread = len(rows) / len(nodes)
                sums[list(rows)] += [int(size * spread) for size in rows.values()]
        if sums is None:
            return None
        most = _IMAGE_MAX_BYTES * len(pod.images)
        bounded = np.clip(sums[feasible], _IMAGE_MIN_BYTES, most)
        scores: Scores = np.floor(MAX_SCORE * (bounded - _IMAGE_MIN_BYTES) / (most - _IMAGE_MIN_BYTES))
        return scores


def _normalized_image(image: str) -> str:
    """With the tag that is meant when none is given."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
