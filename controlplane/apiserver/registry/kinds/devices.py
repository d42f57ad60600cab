"""Dynamic resource allocation: claims, templates, classes and slices of devices."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.others import (
    default_resource_claim,
    default_resource_claim_template,
    default_resource_slice,
)
from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _create_slice(piece: Object, context: Context) -> None:
    default_resource_slice(piece, context.now)
    prepare_create(generation=True)(piece, context)


def _update_slice(new: Object, old: Object, context: Context) -> None:
    default_resource_slice(new, context.now)
    prepare_update(counts=("spec",))(new, old, context)


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.DEVICECLASSES: Strategy(
        prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("spec",))
    ),
    catalogue.RESOURCECLAIMS: Strategy(
        default=default_resource_claim,
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
    ),
    catalogue.RESOURCECLAIMTEMPLATES: Strategy(
        default=default_resource_claim_template, prepare_create=prepare_create(), prepare_update=prepare_update()
    ),
    catalogue.RESOURCESLICES: Strategy(
        prepare_create=_create_slice,
        prepare_update=_update_slice,
        fields={
            "spec.nodeName": lambda piece: text(piece, "spec", "nodeName"),
            "spec.driver": lambda piece: text(piece, "spec", "driver"),
        },
    ),
}
