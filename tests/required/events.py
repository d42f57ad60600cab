"""A watch that a test has going on beside what it does: its events, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster import SECONDS, Cluster

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import WatchEvent


@dataclass(slots=True)
class Seen:
    """The events of a watch, those that are bookmarks aside."""

    _events: asyncio.Queue[WatchEvent] = field(default_factory=asyncio.Queue)

    async def next(self, kind: str = "") -> Object:
        """The object of the next event, which is of this kind (ADDED, MODIFIED, DELETED)."""
        async with asyncio.timeout(SECONDS):
            event = await self._events.get()
        assert not kind or event.type == kind, f"{event.type} instead of {kind}: {event.object['metadata']}"
        return event.object

    async def until(self, kind: str, holds: Callable[[Object], Any] = lambda _: True) -> Object:
        """The object of the first event of this kind of which something holds; those before are passed over."""
        async with asyncio.timeout(SECONDS):
            while (event := await self._events.get()).type != kind or not holds(event.object):
                pass
        return event.object

    def add(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK":
            self._events.put_nowait(event)


@asynccontextmanager
async def watching(
    cluster: Cluster, resource: ResourceType, *, since: str = "", labels: str = "", fields: str = ""
) -> AsyncIterator[Seen]:
    """What happens to objects of the test's namespace (or of no namespace) after a revision; by default from now on."""
    namespace = cluster.namespace if resource.namespaced else ""
    since = since or (await cluster.client.list(resource, namespace, limit=1)).resource_version
    seen = Seen()

    async def watch() -> None:
        async for event in cluster.client.watch(
            resource, namespace, resource_version=since, label_selector=labels, field_selector=fields
        ):
            seen.add(event)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
