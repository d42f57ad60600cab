"""Roles and bindings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from controlplane.apiserver.registry.defaults.others import default_role_ref
from controlplane.apiserver.registry.rules import prepare_create, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import configuration as rules
from machinery.api import catalogue, names
from machinery.api.resource import ResourceType

_PLAIN = Strategy(
    prepare_create=prepare_create(),
    prepare_update=prepare_update(),
    validate_name=names.path_segment,
    allow_create_on_update=True,
)


def _binding(*, namespaced: bool) -> Strategy:
    return replace(
        _PLAIN,
        default=default_role_ref,
        validate=partial(rules.binding, namespaced=namespaced),
        validate_update=partial(rules.binding_update, namespaced=namespaced),
    )


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.ROLES: replace(_PLAIN, validate=rules.role, validate_update=rules.role_update),
    catalogue.ROLEBINDINGS: _binding(namespaced=True),
    catalogue.CLUSTERROLES: replace(_PLAIN, validate=rules.cluster_role, validate_update=rules.cluster_role_update),
    catalogue.CLUSTERROLEBINDINGS: _binding(namespaced=False),
}
