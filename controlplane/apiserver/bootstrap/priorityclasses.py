"""The PriorityClasses that every cluster has.

Source: k8s.io/kubernetes/pkg/apis/scheduling/v1/helpers.go, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterator

from machinery.api.meta import Object

SYSTEM: dict[str, tuple[int, str]] = {
    "system-node-critical": (
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}
"""name → (value, description)."""


def priority_classes() -> Iterator[Object]:
    """All system PriorityClasses."""
    for name, (value, description) in SYSTEM.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
