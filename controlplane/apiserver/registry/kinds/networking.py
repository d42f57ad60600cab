"""Ingresses, network policies, service address ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controlplane.apiserver.registry.defaults.services import default_ingress_class, default_network_policy
from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import networking as rules
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _spec(default: Callable[[Object], None]) -> Strategy:
    return Strategy(
        default=default,
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("spec",)),
    )


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.INGRESSCLASSES: replace(
        _spec(default_ingress_class), validate=rules.ingress_class, validate_update=rules.ingress_class_update
    ),
    catalogue.NETWORKPOLICIES: replace(
        _spec(default_network_policy),
        validate=rules.network_policy,
        validate_update=rules.network_policy_update,
    ),
    catalogue.INGRESSES: Strategy(
        warnings=warnings.ingress,
        validate=rules.ingress,
        validate_update=rules.ingress_update,
        validate_status_update=rules.ingress_status,
        prepare_create=prepare_create(status={"loadBalancer": {}}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.IPADDRESSES: Strategy(
        validate=rules.ip_address,
        validate_update=rules.ip_address_update,
        validate_name=rules.address_name,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        fields={"spec.parentRef.resource": lambda ip: text(ip, "spec", "parentRef", "resource")},
    ),
    catalogue.SERVICECIDRS: Strategy(
        validate=rules.service_cidr,
        validate_update=rules.service_cidr_update,
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    ),
}
