"""Label keys that stand for the pod's own values: copied into selectors when the pod is created.

Source: pkg/registry/core/pod/strategy.go (mutatePodAffinity, mutateTopologySpreadConstraints).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import child, items, strings, sub, values
from machinery.api.meta import Object


def apply_label_keys(pod: Object) -> None:
    """Extend the selectors of affinity and spread terms by `matchLabelKeys` and `mismatchLabelKeys`, in place."""
    labels = strings(pod, "metadata", "labels")
    spec = sub(pod, "spec")
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = sub(spec, "affinity", kind)
        terms = items(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
        preferred = items(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
        for term in (*terms, *(sub(p, "podAffinityTerm") for p in preferred)):
            if isinstance(term.get("labelSelector"), dict):
                _extend(term, labels, "matchLabelKeys", "In")
                _extend(term, labels, "mismatchLabelKeys", "NotIn")
    for constraint in items(spec, "topologySpreadConstraints"):
        if isinstance(constraint.get("labelSelector"), dict):
            _extend(constraint, labels, "matchLabelKeys", "In")


def _extend(term: Object, labels: dict[str, str], keys: str, operator: str) -> None:
    selector = child(term, "labelSelector")
    for key in values(term, keys):
        if isinstance(key, str) and key in labels:
            expressions = selector.get("matchExpressions")
            added = {"key": key, "operator": operator, "values": [labels[key]]}
            selector["matchExpressions"] = [*(expressions or []), added]
