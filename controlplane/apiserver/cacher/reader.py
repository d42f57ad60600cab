"""The watch cache as the other parts of the server see it: parsed objects, by resource type."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.cacher.record import DELETED, Event, Record
from controlplane.apiserver.objects import Objects
from controlplane.apiserver.reader import OnChange
from controlplane.apiserver.resources import Resources
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


class CacheReader:
    """Fulfils `controlplane.apiserver.reader.Reader`. Objects are in their stored version."""

    def __init__(self, resources: Resources, objects: Objects) -> None:
        self._resources = resources
        self._objects = objects

    def _record(self, resource: ResourceType, key: str) -> Record | None:
        return self._objects.collection(self._resources.of(resource).prefix).records.get(key)

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """See the contract."""
        record = self._record(resource, f"{namespace}/{name}" if namespace else name)
        return record.object if record is not None else None

    def list(self, resource: ResourceType, namespace: str = "") -> Iterable[Object]:
        """See the contract."""
        records = self._objects.collection(self._resources.of(resource).prefix).list(namespace)
        return [record.object for record in records]

    def on_change(self, resource: ResourceType, callback: OnChange, *, holding: str = "") -> None:
        """See the contract. What is there is told at once, or when the server has read storage."""
        prefix, text = self._resources.of(resource).prefix, holding.encode()

        def told(record: Record | None) -> Object | None:
            return record.object if record is not None and text in record.value else None

        def tell(event: Event) -> None:
            old, new = told(event.previous), None if event.kind == DELETED else told(event.record)
            if old is not None or new is not None:
                callback(old, new)

        for record in self._objects.collection(prefix).list():
            if (there := told(record)) is not None:
                callback(None, there)
        self._objects.cacher.observe(prefix, tell)

    async def get_latest(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """See the contract."""
        key = f"{namespace}/{name}" if namespace else name
        record = await self._objects.fresh(self._resources.of(resource).prefix, key)
        return record.object if record is not None else None
