"""Roles and bindings."""

from __future__ import annotations

from controlplane.apiserver.registry.rules import prepare_create, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_RBAC = Strategy(prepare_create=prepare_create(), prepare_update=prepare_update(), allow_create_on_update=True)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.ROLES: _RBAC,
    catalogue.ROLEBINDINGS: _RBAC,
    catalogue.CLUSTERROLES: _RBAC,
    catalogue.CLUSTERROLEBINDINGS: _RBAC,
}
