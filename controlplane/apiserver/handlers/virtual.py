"""Resources that are answered and not stored: reviews and token requests, and the status of components.

Source: k8s.io/apiserver/pkg/registry/rest (Creater without storage), pkg/registry/core/componentstatus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.handlers import componentstatus, decoding, encoding, metadata, negotiated
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.options import write_options
from controlplane.apiserver.handlers.writer import options_object
from controlplane.apiserver.resources import Served
from machinery.api import catalogue, schema
from machinery.api.resource import ResourceType
from machinery.errors import BadRequest


@dataclass(frozen=True, slots=True)
class VirtualReader:
    """How a resource that is not stored is read."""

    get: Callable[[Api, Exchange], Awaitable[Answer]]
    list: Callable[[Api, Exchange], Awaitable[Answer]]


READERS: dict[ResourceType, VirtualReader] = {
    catalogue.COMPONENTSTATUSES: VirtualReader(componentstatus.get, componentstatus.list_)
}


def expected(served: Served, exchange: Exchange) -> decoding.Expected:
    """What a body for the resource or subresource should hold."""
    sub, kind = exchange.subresource, served.type
    if sub is None or not sub.kind:
        return decoding.Expected(kind.group, kind.version, kind.kind, served.schema)
    group, version = (sub.group, sub.version) if sub.version else (kind.group, kind.version)
    return decoding.Expected(group, version, sub.kind, schema.load().of(group, version, sub.kind))


async def create(api: Api, exchange: Exchange) -> Answer:
    """POST to a virtual resource or subresource."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange, shapes=False)
    options = write_options(exchange.query, "CreateOptions")
    body = await exchange.body()
    obj = decoding.decode(exchange, body, expected(served, exchange), api.resources, options.validation)
    meta = obj["metadata"]
    if info.subresource:
        if meta.get("name") and meta["name"] != info.name:
            told = f"the name of the object ({meta['name']}) does not match the name on the URL ({info.name})"
            raise BadRequest(told)
        meta["name"] = info.name
    metadata.match_namespace(meta, info.namespace, namespaced=served.type.namespaced)
    if not info.subresource:
        served.strategy.default(obj)
    operation = Operation(
        "CREATE",
        served.type,
        info.subresource,
        info.namespace,
        info.name,
        exchange.user,
        obj,
        None,
        options_object("CreateOptions", options),
        options.dry_run,
        exchange.warnings,
        exchange.audit_annotations,
    )
    await api.admission.admit(operation)
    await api.admission.validate(operation)
    assert operation.object is not None
    call = Call(
        exchange.user,
        served.type,
        info.subresource,
        info.namespace,
        info.name if info.subresource else "",
        operation.object,
        api.now(),
        options.dry_run,
        {k.lower(): v for k, v in exchange.headers.items()},
        exchange.warnings,
    )
    made = await api.extensions.virtual[served.type, info.subresource](call)
    return encoding.encode(orjson.dumps(made), form, 201)
