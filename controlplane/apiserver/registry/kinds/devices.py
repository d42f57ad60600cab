"""Dynamic resource allocation: claims, templates, classes and slices of devices."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.others import (
    default_resource_claim,
    default_resource_claim_template,
    default_resource_slice,
)
from controlplane.apiserver.registry.kinds.device_permissions import (
    claim_permitted,
    device_id,
    taken_back,
    template_permitted,
)
from controlplane.apiserver.registry.objects import child, items, text
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import device_slices
from controlplane.apiserver.registry.validation import devices as rules
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _create_slice(piece: Object, context: Context) -> None:
    default_resource_slice(piece, context.now)
    prepare_create(generation=True)(piece, context)


def _update_slice(new: Object, old: Object, context: Context) -> None:
    default_resource_slice(new, context.now)
    prepare_update(counts=("spec",))(new, old, context)


def _claim_status(new: Object, old: Object, context: Context) -> None:
    """Reports about devices go when the claim has them no more."""
    prepare_status_update(metadata=METADATA_KEPT_BY_STATUS)(new, old, context)
    gone = taken_back(new, old)
    if not gone:
        return
    status = child(new, "status")
    status["devices"] = [d for d in items(new, "status", "devices") if device_id(d) not in gone]
    if not status["devices"]:
        del status["devices"]


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.DEVICECLASSES: Strategy(
        validate=rules.device_class,
        validate_update=rules.device_class_update,
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("spec",)),
    ),
    catalogue.RESOURCECLAIMS: Strategy(
        default=default_resource_claim,
        permitted=claim_permitted,
        validate=rules.claim,
        validate_update=rules.claim_update,
        validate_status_update=rules.claim_status,
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=_claim_status,
        has_status=True,
    ),
    catalogue.RESOURCECLAIMTEMPLATES: Strategy(
        default=default_resource_claim_template,
        permitted=template_permitted,
        validate=rules.claim_template,
        validate_update=rules.claim_template_update,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
    ),
    catalogue.RESOURCESLICES: Strategy(
        validate=device_slices.resource_slice,
        validate_update=device_slices.resource_slice_update,
        prepare_create=_create_slice,
        prepare_update=_update_slice,
        fields={
            "spec.nodeName": lambda piece: text(piece, "spec", "nodeName"),
            "spec.driver": lambda piece: text(piece, "spec", "driver"),
        },
    ),
}
