"""Creating objects: metadata, defaults, managers → mutating admission → identity, `prepare_create`, validation
→ validating admission → storage.

Source: k8s.io/apiserver/pkg/endpoints/handlers/create.go, pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import decoding, encoding, metadata, negotiated
from controlplane.apiserver.handlers.allocation import NOTHING_TAKEN
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import already_exists, details_of
from controlplane.apiserver.handlers.forms import present, storable
from controlplane.apiserver.handlers.managers import updated_managers
from controlplane.apiserver.handlers.options import parse_object_revision, write_options
from controlplane.apiserver.handlers.writer import (
    NAME_CHECKS,
    Writer,
    admitted,
    expected_of,
    invalid,
    key_of,
    operation_of,
    set_managers,
    ttl_of,
    writer_of,
)
from controlplane.apiserver.registry import gated, privileged
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.resources import Served
from machinery.api.meta import Object
from machinery.errors import MethodNotAllowed, StatusError

_GENERATED_TRIES = 8  # names made from generateName that are tried before AlreadyExists is told


async def create(api: Api, exchange: Exchange) -> Answer:
    """POST to a collection."""
    served = exchange.served
    if served.terminating:
        told = "create not allowed while custom resource definition is terminating"
        raise MethodNotAllowed(told, details=details_of(served.type, ""))
    form = negotiated.form(exchange)
    options = write_options(exchange.query, "CreateOptions")
    body = await exchange.body()
    obj = decoding.decode(exchange, body, expected_of(served), api.resources, options.validation)
    record = await create_object(api, served, obj, exchange.info.namespace, writer_of(exchange, options))
    return encoding.one(record, served, form, negotiated.include(exchange, form), 201)


async def create_object(api: Api, served: Served, obj: Object, namespace: str, writer: Writer) -> Record:
    """Create from a decoded object (the caller's own, in the served version)."""
    meta = obj["metadata"]
    metadata.wipe(meta)
    metadata.match_namespace(meta, namespace, namespaced=served.type.namespaced)
    if meta.get("resourceVersion") and parse_object_revision(meta["resourceVersion"]):
        raise StatusError.plain("resourceVersion should not be set on objects to be created")
    meta.pop("resourceVersion", None)
    metadata.tidy_owners(meta, writer.warnings, after_admission=False)
    served.strategy.default(obj)
    set_managers(meta, updated_managers(None, obj, writer.manager, "", served, api.now()))
    if served.view is not None:
        obj = served.view.to_stored(obj)
    name = meta.get("name") or ""
    operation = operation_of(served, "CREATE", "", namespace, name, writer, obj, None, "CreateOptions")
    obj = await admitted(api, served, operation)
    return await _store_new(api, served, operation, obj, writer)


async def _store_new(api: Api, served: Served, operation: Operation, obj: Object, writer: Writer) -> Record:
    meta = obj["metadata"]
    generate = not meta.get("name") and bool(meta.get("generateName"))
    metadata.tidy_owners(meta, writer.warnings, after_admission=True)
    for attempt in range(_GENERATED_TRIES):
        if generate:
            meta.pop("name", None)
        metadata.fill(meta, api.now())
        context = api.context(writer.user, operation.namespace, meta.get("name") or "", dry_run=writer.options.dry_run)
        grant = NOTHING_TAKEN
        if api.allocator.handles(served.stored):
            grant = await api.allocator.take(obj, None, context)
        try:
            gated.drop(served.stored, obj, None)
            served.stored_strategy.prepare_create(obj, context)
            writer.warnings.extend(context.warnings)
            await validate_new(served, obj, writer, context)
            await api.admission.validate(operation)
            key = key_of(served, operation.namespace, meta["name"])
            stored = await storable(obj, served)
            record = await api.objects.create(
                served.prefix, key, stored, ttl_seconds=ttl_of(api, served), dry_run=writer.options.dry_run
            )
        except BaseException:
            await grant.give_back()
            raise
        if record is not None:
            await (grant.give_back() if writer.options.dry_run else grant.keep())
            await present((record,), served)
            return record
        await grant.give_back()
        if not generate or attempt == _GENERATED_TRIES - 1:
            break
    raise await _exists(api, served, operation.namespace, meta["name"], generate=generate)


async def validate_new(served: Served, obj: Object, writer: Writer, context: Context) -> None:
    """Raise Invalid with all that is wrong with a new object; warn of what is only unwise."""
    strategy = served.stored_strategy
    meta = obj["metadata"]
    check = strategy.validate_name or NAME_CHECKS.get(served.type.group)
    errors = metadata.validate(meta, namespaced=served.type.namespaced, check_name=check)
    errors += metadata.finalizer_names(meta, served.type.group, custom=served.custom)
    errors += await strategy.permitted(obj, None, context)
    errors += strategy.validate(obj)
    if not context.privileged:
        errors += privileged.refused(served.stored, obj)
    if errors:
        raise invalid(served, meta.get("name") or "", errors)
    strategy.settle(obj)
    writer.warnings.extend(strategy.warnings(obj, None))


async def _exists(api: Api, served: Served, namespace: str, name: str, *, generate: bool) -> Exception:
    error = already_exists(served.type, name)
    present = await api.objects.latest(served.prefix, key_of(served, namespace, name))
    if present is not None and present.object["metadata"].get("deletionTimestamp"):
        error.message = f"object is being deleted: {error.message}"
    if generate:
        error.message = f"{error.message}, the server was not able to generate a unique name for the object"
    return error
