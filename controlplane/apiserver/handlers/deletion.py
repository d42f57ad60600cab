"""Deleting objects: at once, gracefully, or when their finalizers are done.

Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go (Delete), pkg/registry/rest/delete.go.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import timedelta

import orjson

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.customresources import lifecycle
from controlplane.apiserver.handlers import encoding, negotiated
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import kind_conflict, not_found
from controlplane.apiserver.handlers.forms import present
from controlplane.apiserver.handlers.options import DeleteOptions, delete_options
from controlplane.apiserver.handlers.read import list_options, present_to_select, read_page
from controlplane.apiserver.handlers.selection import selection
from controlplane.apiserver.handlers.writer import key_of
from controlplane.apiserver.objects import Remove, Written
from controlplane.apiserver.request import User
from controlplane.apiserver.resources import Served
from machinery.api import catalogue as c
from machinery.api.meta import Object, format_time, parse_time
from machinery.api.resource import ResourceType
from machinery.errors import NotFound

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"

_KEEPS_DEPENDANTS = frozenset({c.JOBS, c.REPLICATIONCONTROLLERS})
"""Whose dependants outlive them unless the client says otherwise.  Source: their DefaultGarbageCollectionPolicy."""

_NO_DEPENDANTS = frozenset({c.EVENTS})

_TELLS_OBJECT = frozenset(
    {
        c.PODS,
        c.PODTEMPLATES,
        c.PERSISTENTVOLUMES,
        c.PERSISTENTVOLUMECLAIMS,
        c.RESOURCEQUOTAS,
        c.SERVICEACCOUNTS,
        c.SERVICES,
        c.STORAGECLASSES,
        c.VOLUMEATTACHMENTS,
        c.VOLUMEATTRIBUTESCLASSES,
        c.CSIDRIVERS,
        c.CSINODES,
        c.RESOURCECLAIMS,
        c.RESOURCECLAIMTEMPLATES,
        c.RESOURCESLICES,
        c.DEVICECLASSES,
        c.RUNTIMECLASSES,
    }
)
"""Whose deletion is answered with the object instead of a Status.  Source: ReturnDeletedObject in pkg/registry."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`record` is the object as it was last; `gone` tells whether it is."""

    record: Record
    gone: bool


async def delete(api: Api, exchange: Exchange) -> Answer:
    """DELETE of an object."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange)
    options = delete_options(exchange, await exchange.body())
    _warn_of_orphans(exchange, options)
    found = await delete_object(api, served, info.namespace, info.name, options, exchange.user, exchange.warnings)
    status = 202 if not found.gone and options.orphan is False else 200
    if found.gone and served.stored not in _TELLS_OBJECT:
        return encoding.encode(orjson.dumps(_success(served, found.record)), replace(form, shape=""), status)
    await present((found.record,), served)
    return encoding.one(found.record, served, form, negotiated.include(exchange, form), status)


def _warn_of_orphans(exchange: Exchange, options: DeleteOptions) -> None:
    """Source: pkg/registry/batch/job/storage/storage.go."""
    if exchange.served.stored == c.JOBS and options.propagation is None and options.orphan is None:
        exchange.warnings.append(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
            "them or set propagationPolicy=Orphan to suppress this warning"
        )


def _success(served: Served, record: Record) -> Object:
    details = {"name": record.name, "group": served.type.group, "kind": served.type.plural}
    details["uid"] = record.object["metadata"].get("uid", "")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {k: v for k, v in details.items() if v},
    }


async def delete_object(
    api: Api,
    served: Served,
    namespace: str,
    name: str,
    options: DeleteOptions,
    user: User,
    warnings: list[str],
    *,
    asking: bool = True,
) -> Outcome:
    """Delete one object. Raises NotFound, Conflict, and what admission raises (which is asked if `asking`)."""
    deletion = _Deletion(api, served, namespace, name, options, user, warnings)
    deletion.asking = asking
    return await deletion.run()


def check_preconditions(kind: ResourceType, name: str, old: Object, options: DeleteOptions) -> None:
    """Raise Conflict if the object is not the one, or not in the state, that the client means."""
    meta = old["metadata"]
    if options.uid is not None and options.uid != meta.get("uid"):
        raise kind_conflict(
            kind,
            name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated",
        )
    if options.resource_version is not None and options.resource_version != meta.get("resourceVersion"):
        raise kind_conflict(
            kind,
            name,
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({meta.get('resourceVersion')}). The object might have been modified",
        )


class _Deletion:
    def __init__(
        self,
        api: Api,
        served: Served,
        namespace: str,
        name: str,
        options: DeleteOptions,
        user: User,
        warnings: list[str],
    ) -> None:
        self.api, self.served, self.options, self.user = api, served, options, user
        self.namespace, self.name = namespace, name
        self.key = key_of(served, namespace, name)
        self.warnings = warnings
        self.told: Record | None = None
        self.asking = True

    async def run(self) -> Outcome:
        api, served = self.api, self.served
        written = await api.objects.change(served.prefix, self.key, self._step, dry_run=self.options.dry_run)
        while not written.removed and self._due(written.record):
            # Deleted without delay although it could be deleted gracefully: watchers are told so before it goes.
            if self.options.dry_run:
                return Outcome(written.record, True)
            removed = await self._remove(written.record)
            if removed is not None:
                return Outcome(removed, True)
            written = await self._again(written)
        if written.removed and not self.options.dry_run:
            await self._release(written.record)
            return Outcome(written.record.at(written.revision), True)
        return Outcome(written.record, written.removed)

    def _due(self, record: Record) -> bool:
        meta = record.object["metadata"]
        graceful = self.served.stored_strategy.default_grace_seconds is not None
        due = meta.get("deletionTimestamp") and meta.get("deletionGracePeriodSeconds") == 0
        return bool(graceful and due and not meta.get("finalizers"))

    async def _remove(self, record: Record) -> Record | None:
        revision = await self.api.objects.remove(self.served.prefix, record)
        if revision is None:
            return None
        await self._release(record)
        return record.at(revision)

    async def _again(self, written: Written) -> Written:
        latest = await self.api.objects.latest(self.served.prefix, self.key)
        return Written(latest) if latest is not None else Written(written.record, removed=True)

    async def _release(self, record: Record) -> None:
        if self.api.allocator.handles(self.served.stored):
            await self.api.allocator.release(self.served.stored, record.object)

    async def _step(self, current: Record | None) -> Object | Remove:
        """The object's next state on its way out."""
        if current is None:
            raise not_found(self.served.type, self.name)
        old = current.object
        check_preconditions(self.served.type, self.name, old, self.options)
        if self.asking:
            await self._admit(old)
        if self.served.stored == c.NAMESPACES:
            return self._namespace(old)
        if self.served.stored == c.CUSTOMRESOURCEDEFINITIONS:
            old = lifecycle.begin_deletion(old, self.api.now())
        graceful, pending, made = self._graceful(old)
        if pending:
            return old
        finalizers = self._finalizers(made["metadata"])
        waits = bool(finalizers)
        changed = set(finalizers) != set(made["metadata"].get("finalizers") or ())
        if not (graceful or waits or changed):
            return Remove(old)
        made = _with_metadata(made, finalizers=finalizers or None)
        if graceful:
            return made
        if waits:
            return self._marked(made)
        return Remove(old)

    async def _admit(self, old: Object) -> None:
        operation = Operation(
            "DELETE",
            self.served.type,
            "",
            self.namespace,
            self.name,
            self.user,
            None,
            old,
            self.options.as_object,
            self.options.dry_run,
            self.warnings,
        )
        await self.api.admission.admit(operation)
        await self.api.admission.validate(operation)

    def _graceful(self, old: Object) -> tuple[bool, bool, Object]:
        """(whether it goes gracefully, whether it is going already and nothing changes, the object's next state)."""
        rule = self.served.stored_strategy.default_grace_seconds
        if rule is None:
            return False, False, old
        asked = self.options.grace_seconds
        if asked is not None and asked < 0:
            asked = 1
        meta = old["metadata"]
        if meta.get("deletionTimestamp"):
            left = meta.get("deletionGracePeriodSeconds")
            if not left:
                return False, False, old
            if asked is None or asked >= left:
                return False, True, old
            start = parse_time(meta["deletionTimestamp"]) - timedelta(seconds=left)
            moment = format_time(start + timedelta(seconds=asked))
            return True, False, _with_metadata(old, deletionTimestamp=moment, deletionGracePeriodSeconds=asked)
        grace = rule(old, asked)
        moment = format_time(self.api.moment() + timedelta(seconds=grace))
        generation = meta.get("generation")
        made = _with_metadata(
            old,
            deletionTimestamp=moment,
            deletionGracePeriodSeconds=grace,
            generation=generation + 1 if generation else generation,
        )
        return True, False, made

    def _finalizers(self, meta: Object) -> list[str]:
        """Finalizers with those of the garbage collector as the client asked."""
        given: list[str] = list(meta.get("finalizers") or ())
        orphan, foreground = self._propagation(given)
        kept = [f for f in given if f not in (ORPHAN, FOREGROUND)]
        wanted = [*kept, *([ORPHAN] if orphan else []), *([FOREGROUND] if foreground else [])]
        return given if set(wanted) == set(given) else wanted

    def _propagation(self, finalizers: list[str]) -> tuple[bool, bool]:
        kind, options = self.served.stored, self.options
        if kind in _NO_DEPENDANTS:
            return False, False
        if options.orphan is not None:
            return options.orphan, False
        if options.propagation is not None:
            return options.propagation == "Orphan", options.propagation == "Foreground"
        if ORPHAN in finalizers or FOREGROUND in finalizers:
            return ORPHAN in finalizers, FOREGROUND in finalizers
        return kind in _KEEPS_DEPENDANTS, False

    def _marked(self, old: Object) -> Object:
        """The object waiting for its finalizers."""
        meta, now = old["metadata"], self.api.now()
        changes: Object = {"deletionGracePeriodSeconds": 0}
        before = meta.get("deletionTimestamp")
        if not before:
            changes["generation"] = meta["generation"] + 1 if meta.get("generation") else None
        if not before or parse_time(before) > parse_time(now):
            changes["deletionTimestamp"] = now
        return _with_metadata(old, **changes)

    def _namespace(self, old: Object) -> Object | Remove:
        """A namespace waits for its contents, which `spec.finalizers` stands for.

        Source: pkg/registry/core/namespace/storage.
        """
        meta = old["metadata"]
        pending = (old.get("spec") or {}).get("finalizers")
        finalizers = self._finalizers(meta)
        if not meta.get("deletionTimestamp"):
            status = {**(old.get("status") or {}), "phase": "Terminating"}
            return _with_metadata(
                {**old, "status": status}, deletionTimestamp=self.api.now(), finalizers=finalizers or None
            )
        return old if pending or meta.get("finalizers") else Remove(old)


def _with_metadata(obj: Object, **changes: object) -> Object:
    """A copy of the object with these metadata; None removes one."""
    meta = {**obj["metadata"], **changes}
    return {**obj, "metadata": {k: v for k, v in meta.items() if v is not None}}


async def delete_collection(api: Api, exchange: Exchange) -> Answer:
    """DELETE of a collection: what is selected, one by one."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange)
    options = delete_options(exchange, await exchange.body())
    _warn_of_orphans(exchange, options)
    listed = list_options(exchange.query)
    chosen = selection(exchange, served, info.namespace)
    await present_to_select(api, served, chosen)
    page = await read_page(api, served, chosen, listed)
    for record in page.records:
        # as upstream: preconditions are those of the options, the same for all
        with contextlib.suppress(NotFound):
            await delete_object(api, served, record.namespace, record.name, options, exchange.user, exchange.warnings)
    await present(page.records, served)
    return encoding.many(page.records, served, form, page.metadata(), negotiated.include(exchange, form))
