"""What a watch of the live cluster tells, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cluster import SECONDS, Cluster

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import WatchEvent


@dataclass(frozen=True, slots=True)
class Watching:
    """Events that were not yet looked at."""

    events: asyncio.Queue[WatchEvent]

    async def until(self, holds: Callable[[WatchEvent], Any], what: str, *, seconds: float = SECONDS) -> WatchEvent:
        """The first event, after those seen already, for which something holds."""
        seen = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event = await self.events.get()
                    if event.type == "BOOKMARK":
                        continue
                    seen.append((event.type, event.object["metadata"]["name"]))
                    if holds(event):
                        return event
        except TimeoutError:
            raise AssertionError(f"the watch did not tell within {seconds} s: {what}; it told {seen}") from None

    async def deleted(self, name: str) -> WatchEvent:
        return await self.until(
            lambda e: e.type == "DELETED" and e.object["metadata"]["name"] == name, f"{name} deleted"
        )

    async def modified(self, holds: Callable[[Object], Any], what: str) -> Object:
        """The object of the first MODIFIED event for which something holds."""
        return (await self.until(lambda e: e.type == "MODIFIED" and holds(e.object), what)).object


@asynccontextmanager
async def watching(cluster: Cluster, resource: ResourceType, label_selector: str = "") -> AsyncIterator[Watching]:
    """A watch in the test's namespace, of what happens from now on."""
    namespace = cluster.namespace if resource.namespaced else ""
    since = (await cluster.client.list(resource, namespace, label_selector=label_selector)).resource_version
    seen = Watching(asyncio.Queue())

    async def follow() -> None:
        async for event in cluster.client.watch(
            resource, namespace, resource_version=since, label_selector=label_selector
        ):
            seen.events.put_nowait(event)

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
