"""Informers: what the API server holds of one resource type, kept up to date in memory, with calls on every change.

A reflector lists, then watches from the list's revision, resumes a broken watch where it ended, and lists again only
when the server no longer has that revision.  Objects are shared: whoever reads them must not change them.

Source: client-go tools/cache; API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from machinery.api.meta import Object, key_of, uid_of
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import Expired, Gone, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

Handler = Callable[[Object | None, Object | None], None]
"""(None, new): added; (old, new): changed; (old, None): deleted. Must not block; mostly it enqueues a key."""

IndexKeys = Callable[[Object], Iterable[str]]

Objects = list[Object]  # by another name: inside Informer, `list` is the method

_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 10.0
_HEALTHY_SECONDS = 5.0
"""A watch that lasted this long worked: the next failure is a first one again."""


class Informer:
    """The objects of one resource type (perhaps of one namespace, or those that selectors choose)."""

    def __init__(
        self,
        client: Client,
        resource: ResourceType,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Object], Object] | None = None,
        newest_first: bool = False,
    ) -> None:
        """`transform` may shrink objects before they are kept.

        With `newest_first`, handlers are told of a list's objects in the order in which they changed, the last one
        first: it is what nobody has acted on yet if there was no watcher for a moment.
        """
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._label_selector, self._field_selector = label_selector, field_selector
        self._transform = transform
        self._newest_first = newest_first
        self._objects: dict[str, Object] = {}
        self._indexers: dict[str, IndexKeys] = {}
        self._indices: dict[str, dict[str, dict[str, Object]]] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._version = ""
        self.add_index("namespace", lambda obj: [obj["metadata"].get("namespace", "")])

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Object | None:
        """The object of this key (`namespace/name`, or `name`)."""
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        """All objects, or those of a namespace."""
        return self.by_index("namespace", namespace) if namespace else list(self._objects.values())

    def by_index(self, index: str, value: str) -> Objects:
        """The objects that the index puts under `value`."""
        return list(self._indices[index].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in."""
        return self._synced.is_set()

    # -- wiring ------------------------------------------------------------------------------------------------------

    def add_index(self, index: str, keys: IndexKeys) -> None:
        """Have objects found by `by_index(index, value)` for each value that `keys` gives; the same name only once."""
        if index in self._indexers:
            return
        self._indexers[index] = keys
        self._indices[index] = {}
        for key, obj in self._objects.items():
            self._enter(index, key, obj)

    def on_change(self, handler: Handler) -> None:
        """Call `handler` for every object there is already, and for every change from now on."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            handler(None, obj)

    async def synced(self) -> None:
        """Wait until the first list is in."""
        await self._synced.wait()

    # -- reflecting --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the cache up to date until cancelled."""
        delay, now = _FIRST_RETRY_SECONDS, asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
            except (Expired, Gone):
                self._version = ""
            except (StatusError, TransportError) as exc:
                log.warning("watch interrupted", resource=self.resource.group_resource, err=str(exc))
                if now() - began > _HEALTHY_SECONDS:
                    delay = _FIRST_RETRY_SECONDS
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    async def _relist(self) -> None:
        # The most recent state, not any (revision 0): behind several API servers that could be older than what we knew,
        # or than what the leader before us has written. Servers answer it from memory all the same (KEP-2340).
        found = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        items = sorted(found.items, key=_changed_at, reverse=True) if self._newest_first else found.items
        fresh = {key_of(obj): obj for obj in items}
        for key in self._objects.keys() - fresh.keys():
            self._apply(key, None)
        for key, obj in fresh.items():
            self._apply(key, obj)
        self._version = found.resource_version
        self._synced.set()

    async def _follow(self) -> None:
        seconds = random.randint(300, 600)
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=seconds,
        )
        async for event in events:
            obj = event.object
            if event.type != "BOOKMARK":
                self._apply(key_of(obj), None if event.type == "DELETED" else obj, last=obj)
            self._version = obj["metadata"]["resourceVersion"]

    def _apply(self, key: str, new: Object | None, *, last: Object | None = None) -> None:
        old = self._objects.get(key)
        if new is not None:
            if self._transform is not None:
                new = self._transform(new)
            if old is not None and _version(old) == _version(new):
                return
            if old is not None and uid_of(old) != uid_of(new):
                self._apply(key, None)  # deleted and made again between two looks: two events, or owners miss one
                old = None
        elif old is None:
            return
        for index in self._indexers:
            if old is not None:
                self._leave(index, key, old)
            if new is not None:
                self._enter(index, key, new)
        if new is None:
            del self._objects[key]
            old = last if last is not None and self._transform is None else old
        else:
            self._objects[key] = new
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception as exc:  # a defect in one handler must not stop the others, nor the cache
                log.error("change handler failed", error=exc, trace=True, resource=self.resource.group_resource)

    def _enter(self, index: str, key: str, obj: Object) -> None:
        for value in self._index_values(index, obj):
            self._indices[index].setdefault(value, {})[key] = obj

    def _index_values(self, index: str, obj: Object) -> tuple[str, ...]:
        try:
            return tuple(self._indexers[index](obj))
        except Exception as exc:  # nor must a defect in one index stop the cache
            log.error("index failed", error=exc, trace=True, resource=self.resource.group_resource, index=index)
            return ()

    def _leave(self, index: str, key: str, obj: Object) -> None:
        for value in self._index_values(index, obj):
            entries = self._indices[index].get(value)
            if entries is not None:
                entries.pop(key, None)
                if not entries:
                    del self._indices[index][value]


class Informers:
    """The informers of one component: each resource (with the same selectors) is watched once.

    Use as an async context manager: the reflectors run inside it. Informers asked for later start at once.
    """

    def __init__(self, client: Client, *, newest_first: bool = False) -> None:
        """`newest_first`: see Informer."""
        self._client = client
        self._newest_first = newest_first
        self._made: dict[tuple[ResourceType, str, str, str], Informer] = {}
        self._tasks: dict[Informer, asyncio.Task[None]] = {}
        self._running = False

    def of(
        self,
        resource: ResourceType,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Object], Object] | None = None,
    ) -> Informer:
        """The informer for these objects. `transform` counts on the first call only."""
        which = (resource, namespace, label_selector, field_selector)
        informer = self._made.get(which)
        if informer is None:
            informer = self._made[which] = Informer(
                self._client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                transform=transform,
                newest_first=self._newest_first,
            )
            if self._running:
                self._start(informer)
        return informer

    async def stop(self, informer: Informer) -> None:
        """Stop and forget one informer (a custom resource that is gone)."""
        self._made = {which: made for which, made in self._made.items() if made is not informer}
        task = self._tasks.pop(informer, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def synced(self) -> None:
        """Wait until every informer has its first list."""
        for informer in list(self._made.values()):
            await informer.synced()

    async def __aenter__(self) -> Self:
        self._running = True
        for informer in self._made.values():
            self._start(informer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _start(self, informer: Informer) -> None:
        task = asyncio.create_task(informer.run(), name=f"informer {informer.resource.group_resource}")
        self._tasks[informer] = task


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


def _changed_at(obj: Object) -> int:
    """Something that is the greater the later an object changed. Source: KEP-5504, comparable resource versions."""
    version = _version(obj)
    return int(version) if version.isdecimal() else 0
