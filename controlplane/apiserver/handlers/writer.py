"""What creating and changing objects have in common: who writes and how, what admission is shown, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.handlers import decoding
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.handlers.options import WriteOptions, manager_of
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.resources import Served
from machinery.api import catalogue, fielderror, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.errors import BadRequest, Invalid

NAME_CHECKS = {"rbac.authorization.k8s.io": names.path_segment}


@dataclass(slots=True)
class Writer:
    """Who writes, and how."""

    user: User
    options: WriteOptions
    manager: str
    """The name for managedFields."""
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)


def writer_of(exchange: Exchange, options: WriteOptions) -> Writer:
    """The writer of a request."""
    manager = manager_of(options.manager, exchange)
    return Writer(exchange.user, options, manager, exchange.warnings, exchange.audit_annotations)


def expected_of(served: Served) -> decoding.Expected:
    """What a body for this resource should hold."""
    kind = served.type
    return decoding.Expected(kind.group, kind.version, kind.kind, served.schema)


def key_of(served: Served, namespace: str, name: str) -> str:
    """The key in a collection. (The namespace of a request for a Namespace is that itself.)"""
    return f"{namespace}/{name}" if served.type.namespaced else name


def options_object(kind: str, options: WriteOptions) -> Object:
    """Write options as the object that admission sees."""
    made: Object = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    if options.dry_run:
        made["dryRun"] = ["All"]
    if options.manager:
        made["fieldManager"] = options.manager
    return made


def ttl_of(api: Api, served: Served) -> int:
    """How long an object lives by itself; 0: for ever."""
    return int(api.settings.event_ttl_seconds) if served.stored == catalogue.EVENTS else 0


def operation_of(
    served: Served,
    verb: str,
    subresource: str,
    namespace: str,
    name: str,
    writer: Writer,
    new: Object | None,
    old: Object | None,
    options: str,
) -> Operation:
    """What admission is shown of a write."""
    return Operation(
        verb,
        served.type,
        subresource,
        namespace,
        name,
        writer.user,
        new,
        old,
        options_object(options, writer.options),
        writer.options.dry_run,
        writer.warnings,
        writer.audit_annotations,
    )


async def admitted(api: Api, served: Served, operation: Operation) -> Object:
    """The object after the mutating phase; a custom resource that webhooks or policies made is pruned and defaulted."""
    given = operation.object
    await api.admission.admit(operation)
    assert operation.object is not None
    if operation.object is not given and served.custom and served.schema is not None:
        kind = {key: operation.object[key] for key in ("apiVersion", "kind")}  # which decoding leaves out
        operation.object = {**kind, **served.schema.decode(operation.object).object}
        served.strategy.default(operation.object)
    return operation.object


def invalid(served: Served, name: str, errors: list[FieldError]) -> Invalid:
    """The 422 for an object of this resource, under the name of the kind that is stored."""
    return fielderror.invalid_object(served.stored.group, served.stored.kind, name, errors)


def check_name(obj: Object, info: RequestInfo) -> None:
    """Raise BadRequest if the object is not the one that the URL names."""
    name = obj["metadata"].get("name") or ""
    if not name:
        raise BadRequest(f"the name of the object ({info.name} based on URL) was undeterminable: name must be provided")
    if name != info.name:
        raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({info.name})")


def set_managers(meta: Object, managers: list[Object]) -> None:
    """Write managedFields down, or leave them out where there are none."""
    if managers:
        meta["managedFields"] = managers
    else:
        meta.pop("managedFields", None)
