"""Kinds that are questions and are never stored, bindings, and component statuses."""

from __future__ import annotations

from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.BINDINGS: Strategy(),
    catalogue.COMPONENTSTATUSES: Strategy(deprecated="v1 ComponentStatus is deprecated in v1.19+"),
    catalogue.SELFSUBJECTREVIEWS: Strategy(),
    catalogue.TOKENREVIEWS: Strategy(),
    catalogue.SUBJECTACCESSREVIEWS: Strategy(),
    catalogue.LOCALSUBJECTACCESSREVIEWS: Strategy(),
    catalogue.SELFSUBJECTACCESSREVIEWS: Strategy(),
    catalogue.SELFSUBJECTRULESREVIEWS: Strategy(),
}
