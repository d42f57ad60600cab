"""What the graph is made of: a watch on every resource that can be deleted, as resources come and go.

Resources that other controllers watch are taken from their informers; of the rest only metadata is asked for.

Source: k8s.io/kubernetes/pkg/controller/garbagecollector/graph_builder.go, "syncMonitors".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from controlplane.controllers.discovery import Discovered, discover
from controlplane.controllers.garbage.graph import Graph, Work
from machinery.api.catalogue import EVENTS, EVENTS_K8S_IO
from machinery.api.meta import Object, uid_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer, Informers
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.log import get_logger

log = get_logger(__name__)

RESYNC_SECONDS = 30.0
_IGNORED = frozenset({EVENTS, EVENTS_K8S_IO})
_FORM = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


class MetadataClient(Client):
    """A client whose lists and watches carry the objects' metadata alone."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """As Client.request, with objects as PartialObjectMetadata."""
        wanted = {"Accept": _FORM.format("PartialObjectMetadataList")} | dict(headers or {})
        return await super().request(method, path, query=query, body=body, content_type=content_type, headers=wanted)

    async def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """As Client.stream, with objects as PartialObjectMetadata."""
        wanted = {"Accept": _FORM.format("PartialObjectMetadata")} | dict(headers or {})
        async for line in super().stream(path, query=query, headers=wanted):
            yield line


def bare(obj: Object) -> Object:
    """An object as the graph needs it: uid, owners, finalizers, deletion."""
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")
    metadata = obj["metadata"]
    return {"metadata": {name: metadata[name] for name in kept if name in metadata}}


def monitored(discovered: Discovered) -> set[ResourceType]:
    """Resources that take part: those that can be deleted, listed and watched, but for events."""
    needed = {"delete", "list", "watch"}
    return {r for r in discovered.resources if needed <= set(r.verbs) and r not in _IGNORED}


class Monitors:
    """The informers behind the graph."""

    def __init__(
        self,
        graph: Graph,
        client: Client,
        shared: Informers,
        metadata: Informers,
        shared_resources: Callable[[], set[ResourceType]],
        spread: Callable[[Work], None],
        clock: Clock,
    ) -> None:
        self._graph, self._client, self._clock = graph, client, clock
        self._shared, self._metadata, self._shared_resources = shared, metadata, shared_resources
        self._spread = spread
        self._informers: dict[ResourceType, Informer] = {}
        self._own: set[ResourceType] = set()
        self._discovered = Discovered((), {})
        self._whole = asyncio.Event()
        self.unsynced_since: float | None = None

    def resource_of(self, api_version: str, kind: str) -> ResourceType | None:
        """The resource of an owner reference."""
        return self._discovered.of_kind(api_version, kind)

    async def whole(self) -> None:
        """Wait until every object that there was at the last look at the resources is in the graph."""
        await self._whole.wait()

    async def sync(self) -> None:
        """Look which resources there are; start and stop watching."""
        discovered = await discover(self._client)
        wanted = monitored(discovered)
        # A group that could not be asked is not gone.
        kept = {r for r in self._informers if _group_version(r) in discovered.failed}
        self._discovered = discovered
        new = wanted - self._informers.keys()
        if new:
            self._whole.clear()
        for resource in self._informers.keys() - wanted - kept:
            await self._stop(resource)
        for resource in new:
            self._start(resource)
        try:
            async with asyncio.timeout(RESYNC_SECONDS):
                for informer in list(self._informers.values()):
                    await informer.synced()
        except TimeoutError:
            # One resource that can't be listed (a broken aggregated API) must not keep all garbage for ever.
            silent = sorted(r.group_resource for r, i in self._informers.items() if not i.has_synced)
            log.warning("collecting garbage without some resources", resources=silent)
        self._whole.set()

    def _start(self, resource: ResourceType) -> None:
        if resource in self._shared_resources():
            informer = self._shared.of(resource)
        else:
            informer = self._metadata.of(resource, transform=bare)
            self._own.add(resource)
        self._informers[resource] = informer

        def on_change(old: Object | None, new: Object | None) -> None:
            if self._informers.get(resource) is not informer:
                return  # no longer watched for the graph
            if new is not None:
                self._spread(self._graph.observe(resource, new))
            elif old is not None:
                self._spread(self._graph.remove(uid_of(old)))

        informer.on_change(on_change)

    async def _stop(self, resource: ResourceType) -> None:
        informer = self._informers.pop(resource)
        objects = informer.list()
        if resource in self._own:
            self._own.discard(resource)
            await self._metadata.stop(informer)
        for obj in objects:
            self._spread(self._graph.remove(uid_of(obj)))


def _group_version(resource: ResourceType) -> str:
    return resource.api_version
