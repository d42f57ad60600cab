"""Roles and bindings."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.registry.defaults.others import default_role_ref
from controlplane.apiserver.registry.rules import prepare_create, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_ROLE = Strategy(prepare_create=prepare_create(), prepare_update=prepare_update(), allow_create_on_update=True)
_BINDING = replace(_ROLE, default=default_role_ref)

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.ROLES: _ROLE,
    catalogue.ROLEBINDINGS: _BINDING,
    catalogue.CLUSTERROLES: _ROLE,
    catalogue.CLUSTERROLEBINDINGS: _BINDING,
}
