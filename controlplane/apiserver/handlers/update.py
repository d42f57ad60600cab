"""Changing objects: the new state (a body, or a patch applied) → managers → mutating admission → resourceVersion,
`prepare_update`, validation → validating admission → storage; again from the start if the object has changed meanwhile.

Source: k8s.io/apiserver/pkg/endpoints/handlers/update.go, pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import decoding, encoding, metadata, negotiated
from controlplane.apiserver.handlers.allocation import NOTHING_TAKEN
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.create import validate_new
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import conflict, not_found
from controlplane.apiserver.handlers.forms import present, storable, viewed
from controlplane.apiserver.handlers.managers import settle_times, updated_managers
from controlplane.apiserver.handlers.options import parse_object_revision, write_options
from controlplane.apiserver.handlers.permission import may_create
from controlplane.apiserver.handlers.writer import (
    Writer,
    admitted,
    check_name,
    expected_of,
    invalid,
    key_of,
    operation_of,
    set_managers,
    ttl_of,
    writer_of,
)
from controlplane.apiserver.objects import Remove, Written
from controlplane.apiserver.registry import gated, privileged
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.request import RequestInfo
from controlplane.apiserver.resources import Served
from machinery.api import catalogue, fielderror, rawtext
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.errors import Conflict

Produce = Callable[[Object | None], Awaitable[Object]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a change of one subresource (or of the object itself) different from another."""

    subresource: str = ""
    prepare: Callable[[Object, Object, Context], None] = lambda new, old, context: None
    validate: Callable[[Object, Object], list[FieldError]] = lambda new, old: []
    may_create: bool = False
    unconditional: bool = True
    options: str = "UpdateOptions"
    manage: Callable[[Object | None, Object, str], list[Object]] | None = None
    """(old, new, now) → managedFields, in place of those of an ordinary update."""


def rules_of(api: Api, served: Served, subresource: str) -> Rules:
    """The rules of an update."""
    strategy = served.stored_strategy
    if not subresource:
        return Rules(
            "",
            strategy.prepare_update,
            strategy.validate_update,
            strategy.allow_create_on_update,
            strategy.allow_unconditional_update,
        )
    unconditional = strategy.allow_unconditional_update
    if subresource == "status":
        prepare, validate = strategy.prepare_status_update, strategy.validate_status_update
        return Rules(subresource, prepare, validate, strategy.allow_create_on_update, unconditional)
    own = api.extensions.updates[served.stored, subresource]
    return Rules(subresource, own.prepare, own.validate, unconditional=unconditional)


async def update(api: Api, exchange: Exchange) -> Answer:
    """PUT of an object, or of a subresource that speaks its kind."""
    served = exchange.served
    form = negotiated.form(exchange)
    options = write_options(exchange.query, "UpdateOptions")
    body = await exchange.body()
    info = exchange.info

    def decoded(validation: str) -> Object:
        obj = decoding.decode(exchange, body, expected_of(served), api.resources, validation)
        metadata.match_namespace(obj["metadata"], info.namespace, namespaced=served.type.namespaced)
        check_name(obj, info)
        return obj

    first: list[Object] = [decoded(options.validation)]
    uid = first[0]["metadata"].get("uid") or ""
    metadata.tidy_owners(first[0]["metadata"], exchange.warnings, after_admission=False)

    async def produce(old: Object | None) -> Object:
        obj = first.pop() if first else decoded("Ignore")
        if old is not None and uid and old["metadata"].get("uid") != uid:
            raise wrong_uid(api, served, info.namespace, info.name, uid, old)
        served.strategy.default(obj)
        return obj

    rules = rules_of(api, served, info.subresource)
    written = await change_object(api, served, info, produce, rules, writer_of(exchange, options))
    status = 201 if written.created else 200
    return encoding.one(written.record, served, form, negotiated.include(exchange, form), status)


def wrong_uid(api: Api, served: Served, namespace: str, name: str, uid: str, old: Object) -> Conflict:
    """The 409 of a writer who means another object of the name."""
    key = f"{api.objects.cacher.prefix}{served.prefix}{key_of(served, namespace, name)}"
    return conflict(
        served.type,
        name,
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata'].get('uid')}",
    )


async def change_object(
    api: Api, served: Served, info: RequestInfo, produce: Produce, rules: Rules, writer: Writer
) -> Written:
    """Change an object from state to state, under the rules; creates it where they allow that."""
    key = key_of(served, info.namespace, info.name)
    grants = _Grants(api)

    async def change(current: Record | None) -> Object | Remove:
        await grants.give_back()
        if current is None:
            if not rules.may_create:
                raise not_found(served.type, info.name)
            await may_create(api, info, writer.user, served.type)
            return await storable(await _new_by_update(api, served, info, produce, rules, writer, grants), served)
        await present((current,), served)
        made = await _changed(api, served, info, current, produce, rules, writer, grants)
        stored = await storable(made, served)
        settle_times(stored, current.object)
        return Remove(stored) if _finished(made, current.object, served) else stored

    warned = len(writer.warnings)

    async def change_warning_once(current: Record | None) -> Object | Remove:
        del writer.warnings[warned:]
        return await change(current)

    try:
        written = await api.objects.change(
            served.prefix,
            key,
            change_warning_once,
            ttl_seconds=ttl_of(api, served),
            dry_run=writer.options.dry_run,
        )
    except BaseException:
        await grants.give_back()
        raise
    if writer.options.dry_run:
        await grants.give_back()
    else:
        await grants.keep()
        if written.removed and api.allocator.handles(served.stored):
            await api.allocator.release(served.stored, written.record.object)
    await present((written.record,), served)
    return written


class _Grants:
    """What the latest attempt at a change has taken."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._grant = NOTHING_TAKEN

    async def take(self, served: Served, new: Object, old: Object | None, context: Context) -> None:
        if self._api.allocator.handles(served.stored):
            self._grant = await self._api.allocator.take(new, old, context)

    async def keep(self) -> None:
        grant, self._grant = self._grant, NOTHING_TAKEN
        await grant.keep()

    async def give_back(self) -> None:
        grant, self._grant = self._grant, NOTHING_TAKEN
        await grant.give_back()


def _finished(made: Object, old: Object, served: Served) -> bool:
    """Whether the change took away the last thing that a deletion under way waited for."""
    meta, before = made["metadata"], old["metadata"]
    if meta.get("finalizers") or not before.get("deletionTimestamp") or before.get("deletionGracePeriodSeconds"):
        return False
    if served.stored == catalogue.NAMESPACES:
        return not (made.get("spec") or {}).get("finalizers")
    return True


async def _new_by_update(
    api: Api, served: Served, info: RequestInfo, produce: Produce, rules: Rules, writer: Writer, grants: _Grants
) -> Object:
    obj = await produce(None)
    meta = obj["metadata"]
    given_revision = parse_object_revision(meta.get("resourceVersion") or "")
    if given_revision:
        raise not_found(served.type, info.name) if rules.manage else conflict(served.type, info.name)
    now = api.now()
    managers = rules.manage or _ordinary(served, writer, "")
    set_managers(meta, managers(None, obj, now))
    if served.view is not None:
        obj = served.view.to_stored(obj)
    operation = operation_of(served, "CREATE", "", info.namespace, info.name, writer, obj, None, "CreateOptions")
    obj = await admitted(api, served, operation)
    meta = obj["metadata"]
    metadata.tidy_owners(meta, writer.warnings, after_admission=True)
    metadata.wipe(meta)
    metadata.fill(meta, now)
    context = api.context(writer.user, info.namespace, info.name, dry_run=writer.options.dry_run, verb=info.verb)
    if not rules.subresource:
        await grants.take(served, obj, None, context)
    gated.drop(served.stored, obj, None)
    served.stored_strategy.prepare_create(obj, context)
    await validate_new(served, obj, writer, context)
    await api.admission.validate(operation)
    return obj


async def _changed(
    api: Api,
    served: Served,
    info: RequestInfo,
    current: Record,
    produce: Produce,
    rules: Rules,
    writer: Writer,
    grants: _Grants,
) -> Object:
    if served.conversion is not None:
        old = shown = viewed(current, served)
    elif served.view is not None:
        old, shown = _as_sent(current, served), viewed(current, served)
    else:
        old = shown = _as_sent(current, served)
    now = api.now()
    context = api.context(writer.user, info.namespace, info.name, dry_run=writer.options.dry_run, verb=info.verb)
    obj = await produce(shown)
    managers = rules.manage or _ordinary(served, writer, rules.subresource)
    set_managers(obj["metadata"], managers(shown, obj, now))
    if served.view is not None:
        obj = served.view.to_stored(obj)
    operation = operation_of(
        served, "UPDATE", rules.subresource, info.namespace, info.name, writer, obj, old, rules.options
    )
    obj = await admitted(api, served, operation)
    meta = obj["metadata"]
    metadata.tidy_owners(meta, writer.warnings, after_admission=True)
    _check_revision(served, info.name, meta, current, rules)
    meta["resourceVersion"] = str(current.revision)
    if old["metadata"].get("generation") is None:
        meta.pop("generation", None)
    else:
        meta["generation"] = old["metadata"]["generation"]
    if not rules.subresource:
        await grants.take(served, obj, old, context)
    gated.drop(served.stored, obj, old)
    rules.prepare(obj, old, context)
    metadata.keep(obj["metadata"], old["metadata"])
    errors = metadata.validate_update(obj["metadata"], old["metadata"])
    errors += errors  # upstream looks twice, and tells causes twice: for all kinds, and for the kind
    errors += metadata.finalizer_names(obj["metadata"], served.type.group, custom=served.custom)
    errors += await served.stored_strategy.permitted(obj, old, context)
    errors += rules.validate(obj, old)
    if not (context.privileged or rules.subresource == "status"):
        errors += privileged.refused(served.stored, obj)
    writer.warnings.extend(str(error) for error in errors if error.borne)
    if wrong := [error for error in errors if not error.borne]:
        raise invalid(served, obj["metadata"].get("name") or "", wrong)
    if not rules.subresource:
        writer.warnings.extend(served.stored_strategy.warnings(obj, old))
    await api.admission.validate(operation)
    return obj


def _as_sent(current: Record, served: Served) -> Object:
    """The present object, its opaque parts as they were sent."""
    if served.schema is None or not rawtext.paths(served.schema.type):
        return current.object
    return rawtext.marked(served.schema.type, current.object, current.value)


def _ordinary(served: Served, writer: Writer, subresource: str) -> Callable[[Object | None, Object, str], list[Object]]:
    return lambda old, new, now: updated_managers(old, new, writer.manager, subresource, served, now)


def _check_revision(served: Served, name: str, meta: Object, current: Record, rules: Rules) -> None:
    given = parse_object_revision(meta.get("resourceVersion") or "")
    if given == 0:
        if rules.unconditional:
            return
        error = fielderror.invalid("metadata.resourceVersion", 0, "must be specified for an update")
        raise fielderror.invalid_object(served.type.group, served.type.plural, name, [error])
    if given != current.revision:
        raise conflict(served.type, name)
