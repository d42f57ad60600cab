"""Dynamic resource allocation: claims, templates, classes and slices of devices."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.DEVICECLASSES: Strategy(
        prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("spec",))
    ),
    catalogue.RESOURCECLAIMS: Strategy(
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    ),
    catalogue.RESOURCECLAIMTEMPLATES: Strategy(prepare_create=prepare_create(), prepare_update=prepare_update()),
    catalogue.RESOURCESLICES: Strategy(
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("spec",)),
        fields={
            "spec.nodeName": lambda piece: text(piece, "spec", "nodeName"),
            "spec.driver": lambda piece: text(piece, "spec", "driver"),
        },
    ),
}
