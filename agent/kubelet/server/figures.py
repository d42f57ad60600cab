"""The kubelet's own metrics, brought up to date when somebody asks for them.

Source: k8s.io/kubernetes pkg/kubelet/metrics (names and labels as there).
"""

from __future__ import annotations

from collections import Counter as Count

from prometheus_client import Counter, Gauge

from agent.kubelet.kit import Kit

EVICTIONS = Counter("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", ["eviction_signal"])
_NODE_NAME = Gauge("kubelet_node_name", "The node's name. The count is always 1.", ["node"])
_PODS = Gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox")
_CONTAINERS = Gauge("kubelet_running_containers", "Number of containers currently running", ["container_state"])
_ACTIVE = Gauge("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run.", ["static"])


def refresh(kit: Kit) -> None:
    """Set what is counted only when it is looked at."""
    _NODE_NAME.labels(kit.node.name).set(1)
    pods = list(kit.view.pods.values())
    _PODS.set(sum(1 for pod in pods if pod.ready_sandbox is not None))
    states = Count(container.state for pod in pods for container in pod.containers)
    for state in ("created", "running", "exited", "unknown"):
        _CONTAINERS.labels(state).set(states[state])
    _ACTIVE.labels("").set(len(kit.active_pods()))
