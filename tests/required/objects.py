"""Objects of a live cluster: watched, updated while others write to them, deleted by their label."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from cluster import SECONDS, Cluster

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import WatchEvent
from machinery.errors import Conflict


class Watched:
    """What a watch tells, in order."""

    def __init__(self) -> None:
        self.seen: list[WatchEvent] = []
        self._waiting: asyncio.Queue[WatchEvent] = asyncio.Queue()

    def tell(self, event: WatchEvent) -> None:
        self._waiting.put_nowait(event)

    async def next(self, seconds: float = SECONDS) -> WatchEvent:
        """The next event. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            event = await self._waiting.get()
        self.seen.append(event)
        return event

    async def until(
        self, kind: str, holds: Callable[[Object], Any] = lambda _: True, *, seconds: float = SECONDS
    ) -> Object:
        """The object of the next event of a kind (ADDED, MODIFIED, DELETED) of which something holds."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event = await self.next(seconds)
                    if event.type == kind and holds(event.object):
                        return event.object
        except TimeoutError:
            told = [(event.type, event.object["metadata"]["resourceVersion"]) for event in self.seen]
            raise AssertionError(f"no such {kind} event within {seconds} s; seen: {told}") from None

    async def nothing(self, kind: str, holds: Callable[[Object], Any], *, seconds: float) -> None:
        """For so long there is no event of the kind of which something holds."""
        try:
            found = await self.until(kind, holds, seconds=seconds)
        except AssertionError:
            return
        raise AssertionError(f"{kind}: {found}")


@asynccontextmanager
async def watching(
    cluster: Cluster, resource: ResourceType, *, everywhere: bool = False, **selectors: str
) -> AsyncIterator[Watched]:
    """Changes from now on (`label_selector`, `field_selector`), in the test's namespace or in all."""
    namespace = cluster.namespace if resource.namespaced and not everywhere else ""
    since = (await cluster.client.list(resource, namespace, limit=1)).resource_version
    watched = Watched()

    async def follow() -> None:
        async for event in cluster.client.watch(resource, namespace, resource_version=since, **selectors):  # type: ignore[arg-type]
            if event.type != "BOOKMARK":
                watched.tell(event)

    following = asyncio.create_task(follow())
    try:
        yield watched
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def updated(
    cluster: Cluster, resource: ResourceType, name: str, change: Callable[[Object], Any], *, subresource: str = ""
) -> Object:
    """Read, change and replace an object (or its subresource), again as long as somebody else was faster."""
    namespace = cluster.namespace if resource.namespaced else ""
    while True:
        found = await cluster.client.get(resource, name, namespace, subresource=subresource)
        change(found)
        with suppress(Conflict):
            return await cluster.client.update(resource, found, subresource=subresource)


async def delete_labelled(cluster: Cluster, resource: ResourceType, selector: str, **options: Any) -> None:
    """Delete the collection of objects with a label; options are DeleteOptions'."""
    path = resource.path(cluster.namespace if resource.namespaced else "")
    body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
    await cluster.client.request("DELETE", path, query={"labelSelector": selector}, body=body)


async def labelled(
    cluster: Cluster, resource: ResourceType, selector: str, *, everywhere: bool = False
) -> list[Object]:
    """Objects with a label, in the test's namespace or in all."""
    namespace = cluster.namespace if resource.namespaced and not everywhere else ""
    return list((await cluster.client.list(resource, namespace, label_selector=selector)).items)
