"""API priority and fairness: FlowSchemas and PriorityLevelConfigurations; and PriorityClasses of pods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controlplane.apiserver.registry.columns.others import flow_schema_order
from controlplane.apiserver.registry.defaults.others import (
    default_flow_schema,
    default_priority_class,
    default_priority_level,
)
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.registry.validation import classes
from controlplane.apiserver.registry.validation import flowcontrol as rules
from machinery.api import catalogue
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _flow(default: Callable[[Object], None], validate: Callable[[Object], list[FieldError]]) -> Strategy:
    return Strategy(
        default=default,
        validate=validate,
        validate_update=lambda new, old: validate(new),
        validate_status_update=lambda new, old: rules.conditions(new),
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    )


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.FLOWSCHEMAS: replace(_flow(default_flow_schema, rules.flow_schema), row_order=flow_schema_order),
    catalogue.PRIORITYLEVELCONFIGURATIONS: _flow(default_priority_level, rules.priority_level),
    catalogue.PRIORITYCLASSES: Strategy(
        default=default_priority_class,
        validate=classes.priority_class,
        validate_update=classes.priority_class_update,
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(),
    ),
}
