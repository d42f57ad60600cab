"""A watch that goes on whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from machinery.api.resource import ResourceType
from machinery.client.rest import Client, WatchEvent
from machinery.errors import Expired, StatusError, TransportError

LISTED = "LISTED"
"""What happened to objects that a list told of."""
_RETRY_SECONDS = 0.2


@dataclass
class Following:
    """What there is of a kind in a namespace and every change of it: listed once, then watched and resumed."""

    client: Client
    resource: ResourceType
    namespace: str
    lists: int = 0
    """How often it had to be listed, as the watch could not be resumed."""

    async def events(self) -> AsyncIterator[WatchEvent]:
        """Until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    listed = await self.client.list(self.resource, self.namespace)
                    self.lists += 1
                    for each in listed.items:
                        yield WatchEvent(LISTED, each)
                    version = listed.resource_version
                async for event in self.client.watch(self.resource, self.namespace, resource_version=version):
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type != "BOOKMARK":
                        yield event
            except Expired:
                version = ""
            except (StatusError, TransportError):
                await asyncio.sleep(_RETRY_SECONDS)
