"""What makes each kind itself: `strategy_for(resource)` finds the Strategy of a resource type."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.registry.columns.parts import NAME_AND_CREATION
from controlplane.apiserver.registry.columns.table import COLUMNS
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

PLAIN = Strategy(allow_unconditional_update=False)
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
    for _resource, _strategy in _family.STRATEGIES.items():
        _STRATEGIES[_resource] = replace(_strategy, columns=COLUMNS.get(_resource, NAME_AND_CREATION))


def strategy_for(resource: ResourceType) -> Strategy:
    """The strategy of a built-in resource type; `PLAIN` for any other."""
    return _STRATEGIES.get(resource, PLAIN)
