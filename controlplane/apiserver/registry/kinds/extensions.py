"""What extends the API: CustomResourceDefinitions and APIServices."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.others import default_api_service, default_custom_resource_definition
from controlplane.apiserver.registry.objects import flag, items, sub, text, values
from controlplane.apiserver.registry.rules import (
    METADATA_KEPT_BY_STATUS,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import classes, definitions
from machinery.api import catalogue, names
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _stored_version(definition: Object) -> str:
    return next((text(v, "name") for v in items(definition, "spec", "versions") if flag(v, "storage")), "")


def _create_definition(definition: Object, context: Context) -> None:
    prepare_create(status={}, generation=True)(definition, context)
    version = _stored_version(definition)
    definition["status"] = {
        "acceptedNames": {"plural": "", "kind": ""},
        "conditions": None,
        "storedVersions": [version] if version else [],
    }


def _update_definition(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True, counts=("spec",))(new, old, context)
    # Objects may be stored in this version from now on.
    version, status = _stored_version(new), dict(sub(new, "status"))
    if version and version not in values(status, "storedVersions"):
        status["storedVersions"] = [*values(status, "storedVersions"), version]
        new["status"] = status


def _create_api_service(service: Object, context: Context) -> None:
    prepare_create(status={})(service, context)
    if not sub(service, "spec", "service"):
        told = "Local APIServices are always available"
        condition = {"type": "Available", "status": "True", "lastTransitionTime": context.now, "reason": "Local"}
        service["status"] = {"conditions": [{**condition, "message": told}]}


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.CUSTOMRESOURCEDEFINITIONS: Strategy(
        default=default_custom_resource_definition,
        prepare_create=_create_definition,
        prepare_update=_update_definition,
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        validate=definitions.definition,
        validate_name=lambda name: [],  # what it must be is said by `validate`
        validate_update=definitions.definition_update,
        validate_status_update=definitions.definition_status,
        warnings=definitions.definition_warnings,
        has_status=True,
        allow_unconditional_update=False,
    ),
    catalogue.APISERVICES: Strategy(
        default=default_api_service,
        validate=classes.api_service,
        validate_update=lambda new, old: classes.api_service(new),
        validate_status_update=classes.api_service_status,
        validate_name=names.path_segment,
        prepare_create=_create_api_service,
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(metadata=METADATA_KEPT_BY_STATUS),
        has_status=True,
        allow_unconditional_update=False,
    ),
}
