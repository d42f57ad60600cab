"""The scale subresource: how many replicas something has, whatever it is.

Source: pkg/registry/apps/{deployment,replicaset,statefulset}/storage (ScaleREST), autoscaling/v1 Scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import applying, decoding, encoding, negotiated, patching
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import conflict, not_found
from controlplane.apiserver.handlers.forms import viewed
from controlplane.apiserver.handlers.managers import updated_managers
from controlplane.apiserver.handlers.options import WriteOptions, manager_of, parse_object_revision, write_options
from controlplane.apiserver.handlers.read import find
from controlplane.apiserver.handlers.update import change_object, rules_of
from controlplane.apiserver.handlers.writer import check_name, writer_of
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.resources import ScalePaths, Served
from machinery.api import catalogue, fielderror, jsonpath, labels, schema
from machinery.api.meta import Object
from machinery.api.patch import scale as scale_managers
from machinery.api.resource import ResourceType
from machinery.errors import Conflict, InternalError, Invalid


def served_scale() -> Served:
    """Scale as something that can be encoded."""
    kind = schema.load().of("autoscaling", "v1", "Scale")
    strategy = strategy_for(catalogue.SCALES)
    return Served(catalogue.SCALES, strategy, kind, "", catalogue.SCALES, strategy)


def scale_of(obj: Object, served: Served, *, new: bool = False) -> Object:
    """The Scale of an object. Raises InternalError where a custom resource says nothing of its replicas, unless the
    Scale is about to be made (`new`)."""
    if served.scale is not None:
        return _custom_scale(obj, served.scale, new=new)
    resource, meta = served.stored, obj["metadata"]
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in _KEPT if key in meta},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": {"replicas": status.get("replicas") or 0},
    }
    selector = _selector(spec.get("selector"), resource)
    if selector:
        made["status"]["selector"] = selector
    return made


_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def _custom_scale(obj: Object, paths: ScalePaths, *, new: bool) -> Object:
    """Source: pkg/registry/customresource/etcd.go, scaleFromCustomResource."""
    wanted = jsonpath.parse(paths.spec_replicas).find(obj)
    if not wanted and not new:
        told = f'the spec replicas field "{paths.spec_replicas}" does not exist'
        raise InternalError(f"Internal error occurred: {told}", details={"causes": [{"message": told}]})
    running = jsonpath.parse(paths.status_replicas).find(obj)
    selector = jsonpath.parse(paths.selector).find(obj) if paths.selector else []
    status: Object = {"replicas": running[0] if running else 0}
    if selector and selector[0]:
        status["selector"] = selector[0]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: obj["metadata"][key] for key in _KEPT if key in obj["metadata"]},
        "spec": {"replicas": wanted[0]} if wanted and wanted[0] else {},
        "status": status,
    }


def _put_replicas(obj: Object, path: Sequence[str], replicas: int) -> None:
    """Set the number that the path leads to."""
    *names, last = path
    for name in names:
        obj = obj.setdefault(name, {})
    obj[last] = replicas


def _selector(given: Any, resource: ResourceType) -> str:
    if resource == catalogue.REPLICATIONCONTROLLERS:
        return str(labels.from_map(given))
    try:
        return str(labels.from_selector(given))
    except ValueError:
        return ""


def _record(record: Record, served: Served) -> Record:
    data = orjson.dumps(scale_of(viewed(record, served), served))
    return Record(record.key, data, record.revision)


async def scale(api: Api, exchange: Exchange) -> Answer:
    """GET, PUT or PATCH of the scale."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange)
    include = negotiated.include(exchange, form)
    if exchange.method == "GET":
        found = await find(api, served, info.namespace, info.name, exchange.query.get("resourceVersion"))
        return encoding.one(_record(found, served), served_scale(), form, include)
    patch = patching.patch_type(exchange, served) if exchange.method == "PATCH" else ""
    options = write_options(
        exchange.query, "PatchOptions" if patch else "UpdateOptions", apply=patch == patching.APPLY_PATCH
    )
    body = await exchange.body()
    change = _Change(api, exchange, patch, body, options)
    rules = replace(
        rules_of(api, served, ""), subresource="scale", may_create=False, unconditional=True, manage=change.managers
    )
    written = await change_object(api, served, info, change.produce, rules, writer_of(exchange, options))
    return encoding.one(_record(written.record, served), change.own, form, include)


class _Change:
    """A change of a Scale, carried over to what it is the scale of."""

    def __init__(self, api: Api, exchange: Exchange, patch: str, body: bytes, options: WriteOptions) -> None:
        self._api = api
        self._exchange = exchange
        self._served = exchange.served
        self._body = body
        self._options = options
        self._manager = manager_of(options.manager, exchange)
        self._managers: list[Object] = []
        self.own = served_scale()
        self._applied = self._patched = None
        if patch == patching.APPLY_PATCH:
            self._applied = applying.Application(exchange, self.own, body, options, api.now())
        elif patch:
            self._patched = patching.Patched(exchange, self.own, patch, body, options)

    async def produce(self, old: Object | None) -> Object:
        """The object with the replicas asked for."""
        served, info = self._served, self._exchange.info
        if old is None:
            raise not_found(served.type, info.name)
        before = scale_of(old, served, new=True)
        paths = self._paths()
        path = _names(served.scale)
        entries = scale_managers.scale_entries(old, paths)
        if entries:
            before["metadata"]["managedFields"] = entries
        wanted = await self._wanted(before)
        uid = wanted["metadata"].get("uid")
        if uid and uid != old["metadata"].get("uid"):
            raise _wrong_uid(served, info.name, uid, old)
        _check(wanted, old, served, info.name)
        entries = self._entries(before, wanted)
        self._managers = scale_managers.parent_entries(old, entries, api_version=served.type.api_version, paths=paths)
        made: Object = orjson.loads(orjson.dumps(old))
        _put_replicas(made, path, (wanted.get("spec") or {}).get("replicas") or 0)
        return made

    def _paths(self) -> scale_managers.Paths:
        """Where the versions of the kind have their replicas."""
        served = self._served
        if served.type.group == "apps":
            return scale_managers.APPS
        found: dict[str, Sequence[str] | None] = {served.type.api_version: _names(served.scale)}
        for other in self._api.resources.all():
            if other.type.group == served.type.group and other.type.plural == served.type.plural and other.custom:
                found[other.type.api_version] = _names(other.scale) if other.scale else None
        return found

    async def _wanted(self, before: Object) -> Object:
        if self._applied is not None:
            return await self._applied.produce(before)
        if self._patched is not None:
            return await self._patched.produce(before)
        expected = decoding.Expected("autoscaling", "v1", "Scale", self.own.schema)
        wanted = decoding.decode(self._exchange, self._body, expected, self._api.resources, self._options.validation)
        check_name(wanted, self._exchange.info)
        return wanted

    def _entries(self, before: Object, wanted: Object) -> list[Object]:
        now = self._api.now()
        if self._applied is not None:
            return self._applied.managers(before, wanted, now)
        return updated_managers(before, wanted, self._manager, "scale", self.own, now)

    def managers(self, old: Object | None, new: Object, now: str) -> list[Object]:
        """managedFields of the object just produced."""
        return self._managers


def _names(paths: ScalePaths | None) -> list[str]:
    return (paths.spec_replicas if paths else ".spec.replicas").lstrip(".").split(".")


def _wrong_uid(served: Served, name: str, uid: str, old: Object) -> Conflict:
    """The 409 of a writer who means another object of the name."""
    kind, group = f"{served.type.plural}/scale", served.type.group
    told = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata'].get('uid')}"
    qualified = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind}
    message = f"Operation cannot be fulfilled on {qualified} {fielderror.show(name)}: {told}"
    return Conflict(message, details={k: v for k, v in details.items() if v})


def _check(wanted: Object, old: Object, served: Served, name: str) -> None:
    """Raise Conflict or Invalid if the Scale can't be had."""
    meta = wanted["metadata"]
    given = parse_object_revision(meta.get("resourceVersion") or "")
    if given and str(given) != old["metadata"].get("resourceVersion"):
        raise conflict(served.type, name)
    replicas = (wanted.get("spec") or {}).get("replicas") or 0
    if replicas < 0 and served.scale is None:  # a custom resource's own validation says it in its words
        raise _negative(name, replicas)


def _negative(name: str, replicas: int) -> Invalid:
    error = fielderror.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
    return fielderror.invalid_object("autoscaling", "Scale", name, [error])
