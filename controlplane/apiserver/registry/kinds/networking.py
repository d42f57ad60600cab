"""Ingresses, network policies, service address ranges."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_SPEC = Strategy(prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("spec",)))

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.INGRESSCLASSES: _SPEC,
    catalogue.NETWORKPOLICIES: _SPEC,
    catalogue.INGRESSES: Strategy(
        prepare_create=prepare_create(status={"loadBalancer": {}}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.IPADDRESSES: Strategy(
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        fields={"spec.parentRef.resource": lambda ip: text(ip, "spec", "parentRef", "resource")},
    ),
    catalogue.SERVICECIDRS: Strategy(
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
}
