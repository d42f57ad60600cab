"""Nodes and RuntimeClasses."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.others import default_node, default_runtime_class
from controlplane.apiserver.registry.objects import flag
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import classes
from controlplane.apiserver.registry.validation import configuration as rules
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue
from machinery.api.resource import ResourceType

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.NODES: Strategy(
        default=default_node,
        warnings=warnings.node,
        validate=rules.node,
        validate_update=rules.node_update,
        validate_status_update=rules.node_status,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"spec.unschedulable": lambda node: "true" if flag(node, "spec", "unschedulable") else "false"},
    ),
    catalogue.RUNTIMECLASSES: Strategy(
        default=default_runtime_class,
        warnings=warnings.runtime_class,
        validate=classes.runtime_class,
        validate_update=classes.runtime_class_update,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
        allow_unconditional_update=False,
    ),
}
