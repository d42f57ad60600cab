"""The API as the server itself uses it: the handlers' own functions, without HTTP.

It fulfils `controlplane.apiserver.handlers.contract.Loopback`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from controlplane.apiserver.handlers import create, deletion, update
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.forms import json_of, present
from controlplane.apiserver.handlers.options import DeleteOptions, WriteOptions
from controlplane.apiserver.handlers.read import find
from controlplane.apiserver.handlers.writer import Writer
from controlplane.apiserver.loopback_user import MANAGER, USER
from controlplane.apiserver.request import RequestInfo
from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.errors import BadRequest


@dataclass(frozen=True, slots=True)
class LoopbackClient:
    """Reads and writes as `system:apiserver`."""

    api: Api

    def _writer(self) -> Writer:
        return Writer(USER, WriteOptions(), MANAGER)

    def _decoded(self, resource: ResourceType, obj: Object) -> Object:
        served = self.api.resources.of(resource)
        given = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        if served.schema is None:
            made: Object = orjson.loads(orjson.dumps(given))
            return made
        decoded = served.schema.decode(orjson.loads(orjson.dumps(given)))
        if decoded.errors:
            raise BadRequest(decoded.errors[0])
        return {**decoded.object, "apiVersion": resource.api_version, "kind": resource.kind}

    async def get(self, resource: ResourceType, name: str, namespace: str = "") -> Object:
        """See the contract."""
        served = self.api.resources.of(resource)
        record = await find(self.api, served, namespace, name)
        obj: Object = orjson.loads(json_of(record, served))
        return obj

    async def list(self, resource: ResourceType, namespace: str = "") -> Sequence[Object]:
        """See the contract."""
        served = self.api.resources.of(resource)
        await self.api.objects.cacher.fresh()
        records = self.api.objects.collection(served.prefix).list(namespace)
        await present(records, served)
        return [orjson.loads(json_of(record, served)) for record in records]

    async def create(self, resource: ResourceType, obj: Object, namespace: str = "") -> Object:
        """See the contract."""
        served = self.api.resources.of(resource)
        made = self._decoded(resource, obj)
        namespace = namespace or namespace_of(obj)
        record = await create.create_object(self.api, served, made, namespace, self._writer())
        created: Object = orjson.loads(json_of(record, served))
        return created

    async def update(self, resource: ResourceType, obj: Object, subresource: str = "") -> Object:
        """See the contract."""
        served = self.api.resources.of(resource)
        namespace, name = namespace_of(obj), name_of(obj)
        info = RequestInfo(
            "update",
            resource.path(namespace, name, subresource),
            True,
            resource.group,
            resource.version,
            resource.plural,
            subresource,
            namespace,
            name,
        )

        async def produce(old: Object | None) -> Object:
            made = self._decoded(resource, obj)
            served.strategy.default(made)
            return made

        rules = update.rules_of(self.api, served, subresource)
        written = await update.change_object(self.api, served, info, produce, rules, self._writer())
        changed: Object = orjson.loads(json_of(written.record, served))
        return changed

    async def delete(
        self, resource: ResourceType, name: str, namespace: str = "", *, uid: str = "", asking: bool = True
    ) -> None:
        """See the contract."""
        served = self.api.resources.of(resource)
        options = DeleteOptions(uid=uid or None)
        await deletion.delete_object(self.api, served, namespace, name, options, USER, [], asking=asking)
