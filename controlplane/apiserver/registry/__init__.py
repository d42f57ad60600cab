"""What makes each kind itself: `strategy_for(resource)` finds the Strategy of a resource type."""

from __future__ import annotations

from controlplane.apiserver.registry.kinds import (
    admission,
    autoscaling,
    batch,
    certificates,
    core,
    devices,
    extensions,
    flowcontrol,
    networking,
    nodes,
    pods,
    policy,
    rbac,
    reviews,
    services,
    storage,
    workloads,
)
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api.resource import ResourceType

PLAIN = Strategy()
"""A kind without rules of its own: what a custom resource has before its definition adds to it."""

_STRATEGIES: dict[ResourceType, Strategy] = {}
for _family in (
    admission,
    autoscaling,
    batch,
    certificates,
    core,
    devices,
    extensions,
    flowcontrol,
    networking,
    nodes,
    pods,
    policy,
    rbac,
    reviews,
    services,
    storage,
    workloads,
):
    _STRATEGIES.update(_family.STRATEGIES)


def strategy_for(resource: ResourceType) -> Strategy:
    """The strategy of a built-in resource type; `PLAIN` for any other."""
    return _STRATEGIES.get(resource, PLAIN)
