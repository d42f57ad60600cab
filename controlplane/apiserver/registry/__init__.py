"""What makes each kind itself: `strategy_for(resource)` finds the Strategy of a resource type."""

from __future__ import annotations

from collections.abc import Callable
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
from controlplane.apiserver.registry.wire import canonical
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

PLAIN = Strategy()
"""A kind without rules of its own: what a custom resource has before its definition adds to it."""


def _defaults(resource: ResourceType, default: Callable[[Object], None]) -> Callable[[Object], None]:
    """Bring into canonical form, then fill in; the schema is compiled when the first object of the kind arrives."""

    def apply(obj: Object) -> None:
        canonical(resource.group, resource.version, resource.kind)(obj)
        default(obj)

    return apply


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
        _STRATEGIES[_resource] = replace(
            _strategy,
            default=_defaults(_resource, _strategy.default),
            columns=COLUMNS.get(_resource, NAME_AND_CREATION),
        )


def strategy_for(resource: ResourceType) -> Strategy:
    """The strategy of a built-in resource type; `PLAIN` for any other."""
    return _STRATEGIES.get(resource, PLAIN)
