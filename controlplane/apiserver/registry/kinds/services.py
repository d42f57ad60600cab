"""Services and what lists their backends; Events."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.services import (
    default_endpoint_slice,
    default_endpoints,
    default_service,
)
from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.service_addresses import (
    drop_by_type,
    normalise_addresses,
    patch_allocated,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import endpoints
from controlplane.apiserver.registry.validation import services as rules
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue, names
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _event_source(event: Object) -> str:
    return text(event, "source", "component") or text(event, "reportingComponent")


def _create_service(service: Object, context: Context) -> None:
    prepare_create(status={"loadBalancer": {}})(service, context)
    normalise_addresses(service, None)


def _update_service(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True)(new, old, context)
    patch_allocated(new, old)
    normalise_addresses(new, old)
    drop_by_type(new, old)


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.SERVICES: Strategy(
        default=default_service,
        warnings=warnings.service,
        validate=rules.service,
        validate_update=rules.service_update,
        validate_status_update=rules.service_status,
        validate_name=names.dns1123_label,
        prepare_create=_create_service,
        prepare_update=_update_service,
        prepare_status_update=prepare_status_update(),
        has_status=True,
        allow_create_on_update=True,
        fields={
            "spec.clusterIP": lambda service: text(service, "spec", "clusterIP"),
            "spec.type": lambda service: text(service, "spec", "type"),
        },
    ),
    catalogue.ENDPOINTS: Strategy(
        default=default_endpoints,
        warnings=warnings.endpoints,
        deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        validate=endpoints.endpoints,
        validate_update=lambda new, old: endpoints.endpoints(new),
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
    ),
    catalogue.ENDPOINTSLICES: Strategy(
        default=default_endpoint_slice,
        validate=endpoints.endpoint_slice,
        validate_update=endpoints.endpoint_slice_update,
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("endpoints", "ports", "addressType"), metadata_counts=("labels",)),
    ),
    catalogue.EVENTS: Strategy(
        validate=endpoints.event,
        validate_update=lambda new, old: endpoints.event(new),
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
        fields={f"involvedObject.{key}": lambda event, key=key: text(event, "involvedObject", key) for key in _INVOLVED}
        | {
            "reason": lambda event: text(event, "reason"),
            "reportingComponent": lambda event: text(event, "reportingComponent"),
            "source": _event_source,
            "type": lambda event: text(event, "type"),
        },
    ),
    catalogue.EVENTS_K8S_IO: Strategy(
        validate=endpoints.event_k8s_io,
        validate_update=endpoints.event_k8s_io_update,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
        fields={f"regarding.{key}": lambda event, key=key: text(event, "regarding", key) for key in _INVOLVED}
        | {
            "reason": lambda event: text(event, "reason"),
            "reportingController": lambda event: text(event, "reportingController"),
            "type": lambda event: text(event, "type"),
        },
    ),
}
