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
    """Events that were not yet looked at, and those that were."""

    events: asyncio.Queue[WatchEvent]
    seen: list[WatchEvent]

    async def next(self) -> WatchEvent:
        """The next event. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS):
            return await self._take()

    async def then(self, kind: str) -> Object:
        """The object of the next event, which is of this kind (ADDED, MODIFIED, DELETED)."""
        event = await self.next()
        assert event.type == kind, f"{event.type} instead of {kind}: {event.object['metadata']}"
        return event.object

    async def _take(self) -> WatchEvent:
        event = await self.events.get()
        self.seen.append(event)
        return event

    async def until(self, holds: Callable[[WatchEvent], Any], what: str, *, seconds: float = SECONDS) -> WatchEvent:
        """The first event, after those seen already, for which something holds."""
        try:
            async with asyncio.timeout(seconds):
                while not holds(event := await self._take()):
                    pass
                return event
        except TimeoutError:
            told = [(event.type, event.object["metadata"]["name"]) for event in self.seen]
            raise AssertionError(f"the watch did not tell within {seconds} s: {what}; it told {told}") from None

    async def one(
        self, kind: str, holds: Callable[[Object], Any] = lambda _: True, *, seconds: float = SECONDS
    ) -> Object:
        """The object of the first event of a kind (ADDED, MODIFIED, DELETED) of which something holds."""
        return (await self.until(lambda e: e.type == kind and holds(e.object), kind, seconds=seconds)).object

    async def nothing(self, kind: str, holds: Callable[[Object], Any], *, seconds: float) -> None:
        """For so long there is no event of the kind of which something holds."""
        try:
            found = await self.one(kind, holds, seconds=seconds)
        except AssertionError:
            return
        raise AssertionError(f"{kind}: {found}")

    async def deleted(self, name: str) -> WatchEvent:
        return await self.until(
            lambda e: e.type == "DELETED" and e.object["metadata"]["name"] == name, f"{name} deleted"
        )

    async def modified(self, holds: Callable[[Object], Any], what: str) -> Object:
        """The object of the first MODIFIED event for which something holds."""
        return (await self.until(lambda e: e.type == "MODIFIED" and holds(e.object), what)).object


@asynccontextmanager
async def watching(
    cluster: Cluster,
    resource: ResourceType,
    label_selector: str = "",
    *,
    field_selector: str = "",
    everywhere: bool = False,
    since: str = "",
) -> AsyncIterator[Watching]:
    """A watch in the test's namespace, or in all, of what happens after a revision; by default from now on."""
    namespace = cluster.namespace if resource.namespaced and not everywhere else ""
    since = since or (await cluster.client.list(resource, namespace, limit=1)).resource_version
    told = Watching(asyncio.Queue(), [])

    async def follow() -> None:
        async for event in cluster.client.watch(
            resource,
            namespace,
            resource_version=since,
            label_selector=label_selector,
            field_selector=field_selector,
        ):
            if event.type != "BOOKMARK":
                told.events.put_nowait(event)

    task = asyncio.create_task(follow())
    try:
        yield told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
