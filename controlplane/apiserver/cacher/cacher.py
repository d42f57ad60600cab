"""The one watch of storage that all reads are served from, and how a read knows that it is up to date.

Consistent reads: a request may be answered from memory once memory has reached a revision that storage told *after*
the request came in.  One such read of storage serves all requests that wait for one.

Source: KEP-2340, "Consistent reads from cache".
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from controlplane.apiserver import envelope
from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Event, Record
from controlplane.apiserver.storage.contract import Batch, Storage, Stored
from controlplane.apiserver.storage.keys import collection_prefix
from machinery.errors import RevisionCompacted, StorageUnavailable
from machinery.log import get_logger

log = get_logger(__name__)

CATCH_UP_SECONDS = 0.5  # how long a read waits for memory to be up to date before it goes to storage itself
_CROWD = 4  # so many waiting for one read of the revision: it pays to wait a moment for more before the next
_GATHER_SECONDS = 0.001
_LAGGING_SECONDS = 0.01  # the same while memory is known to lag


class Cacher:
    """Everything under one prefix of storage. `start` it, then keep `run` running."""

    def __init__(self, storage: Storage, prefix: str = "/registry/") -> None:
        self.storage = storage
        self.prefix = prefix
        self.revision = 0
        """All changes up to this revision are in."""
        self.compacted = 0
        """Lists of revisions before this one are storage's to refuse, even where memory still knows what was there."""
        self._read_at = 0  # the revision of the last reading of everything: what changed since was seen
        self._collections: dict[str, Collection] = {}
        self._observers: dict[str, list[Callable[[Event], None]]] = defaultdict(list)
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []  # heap: (revision, order, future)
        self._order = count()
        self._asking: list[asyncio.Future[int]] = []  # who waits for the next read of storage's revision
        self._ask = asyncio.Event()
        self._lag_until = 0  # reads have not waited long enough for this revision; while it is ahead they hardly wait

    def collection(self, prefix: str) -> Collection:
        """The collection of this prefix (relative, ending in `/`); made empty when it is first asked for.

        Nothing has happened in one that is new since everything was read: it can be watched from then on.
        """
        found = self._collections.get(prefix)
        if found is None:
            found = self._collections[prefix] = Collection(prefix, self._read_at)
        return found

    def key(self, collection: Collection, key: str) -> str:
        """The key in storage of an object."""
        return f"{self.prefix}{collection.prefix}{key}"

    def forget_before(self, revision: int) -> None:
        """Storage was compacted up to this revision: pages of older lists have expired, on every server alike."""
        self.compacted = max(self.compacted, revision)

    def observe(self, prefix: str, observer: Callable[[Event], None]) -> None:
        """Have `observer` called for each change of a collection from now on (a relisting included), in order."""
        self._observers[prefix].append(observer)

    async def start(self) -> None:
        """Read everything. Raises StorageUnavailable."""
        found, revision, _ = await self.storage.list(self.prefix)
        self._read_at = revision
        for prefix, records in self._sort(found).items():
            collection = self._collections.setdefault(prefix, Collection(prefix, revision))
            collection.reset(records, revision)
        for collection in self._collections.values():
            if not collection.records:
                collection.reset((), revision)
        time = asyncio.get_running_loop().time()
        for prefix, observers in self._observers.items():
            for event in _differences({}, self.collection(prefix).records, revision, time):
                for observer in observers:
                    observer(event)
        self._reach(revision)

    def _sort(self, found: Iterable[Stored]) -> dict[str, list[Record]]:
        sorted_: dict[str, list[Record]] = defaultdict(list)
        skip = len(self.prefix)
        for stored in found:
            key = stored.key[skip:]
            if "/" not in key:
                continue  # not an object: the servers' own marks
            prefix = collection_prefix(key)
            record = self.record(key[len(prefix) :], stored.value, stored.revision)
            if record is not None:
                sorted_[prefix].append(record)
        return sorted_

    def record(self, key: str, value: bytes, revision: int) -> Record | None:
        """A record of a stored value; None (and a word in the log) if it holds no object."""
        try:
            return Record(key, envelope.with_revision(value, revision), revision)
        except ValueError as exc:
            log.error("value in storage is not an object", key=key, error=exc)
            return None

    async def run(self) -> None:
        """Follow storage until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_storage())
            while True:
                try:
                    async with contextlib.aclosing(self.storage.watch(self.prefix, after=self.revision)) as batches:
                        async for batch in batches:
                            self._apply(batch)
                except RevisionCompacted:
                    log.warning("events were compacted before they were seen; reading everything anew")
                    await self._relist()

    def _apply(self, batch: Batch) -> None:
        if batch.changes:
            self._take(batch)
        self._reach(batch.revision)

    def _take(self, batch: Batch) -> None:
        time = asyncio.get_running_loop().time()
        skip = len(self.prefix)
        events: dict[Collection, list[Event]] = {}
        for change in batch.changes:
            key = change.key[skip:]
            if "/" not in key:
                continue
            prefix = collection_prefix(key)
            collection = self.collection(prefix)
            own = key[len(prefix) :]
            event: Event | None
            if change.value is None:
                event = collection.remove(own, change.revision, time)
            else:
                record = self.record(own, change.value, change.revision)
                event = collection.put(record, time) if record is not None else None
            if event is not None:
                events.setdefault(collection, []).append(event)
        self.revision = max(self.revision, batch.revision)
        for collection, published in events.items():
            for observer in self._observers.get(collection.prefix, ()):
                for event in published:
                    observer(event)
            collection.publish(published)

    def _reach(self, revision: int) -> None:
        self.revision = revision = max(self.revision, revision)
        waiting = self._waiting
        while waiting and waiting[0][0] <= revision:
            future = heapq.heappop(waiting)[2]
            if not future.done():
                future.set_result(True)

    async def _relist(self) -> None:
        """Replace everything by what is there now; observers are told the differences."""
        while True:
            try:
                found, revision, _ = await self.storage.list(self.prefix)
                break
            except StorageUnavailable as exc:
                log.error("cannot read storage anew", error=exc)
                await asyncio.sleep(1)
        self._read_at = revision
        time = asyncio.get_running_loop().time()
        fresh = self._sort(found)
        for prefix in self._collections.keys() | fresh.keys():
            collection = self.collection(prefix)
            old = collection.records
            collection.reset(fresh.get(prefix, ()), revision)
            for event in _differences(old, collection.records, revision, time):
                for observer in self._observers.get(prefix, ()):
                    observer(event)
        self._reach(revision)

    async def reached(self, revision: int, seconds: float) -> bool:
        """Wait until all changes up to a revision are in; False if they aren't after that time."""
        if revision <= self.revision:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), future))
        timer = loop.call_later(seconds, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def fresh(self) -> bool:
        """Wait until everything written before this call is in; False if that takes too long (read storage then).

        Raises StorageUnavailable.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asking.append(future)
        self._ask.set()
        revision = await future
        if revision <= self.revision:
            return True
        lagging = self._lag_until > self.revision
        if await self.reached(revision, _LAGGING_SECONDS if lagging else CATCH_UP_SECONDS):
            return True
        if not lagging:
            log.warning("memory lags behind storage; reading from storage", revision=self.revision, wanted=revision)
        self._lag_until = max(self._lag_until, revision)
        return False

    async def _ask_storage(self) -> None:
        """Read storage's revision for all who ask, one read at a time; who asks during a read waits for the next.

        A read costs more than all else of a request, so where many come at once it is made for more of them.
        """
        key = self.prefix + "health"
        asking: list[asyncio.Future[int]] = []
        while True:
            await self._ask.wait()
            if len(asking) >= _CROWD:
                await asyncio.sleep(_GATHER_SECONDS)
            self._ask.clear()
            asking, self._asking = self._asking, []
            try:
                _, revision = await self.storage.get(key)
            except StorageUnavailable as exc:
                for future in asking:
                    if not future.done():
                        future.set_exception(StorageUnavailable(str(exc)))
                continue
            for future in asking:
                if not future.done():
                    future.set_result(revision)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


def _differences(old: dict[str, Record], new: dict[str, Record], revision: int, time: float) -> Sequence[Event]:
    events = [Event("DELETED", r.at(revision), r, time) for key, r in old.items() if key not in new]
    for key, record in new.items():
        before = old.get(key)
        if before is None:
            events.append(Event("ADDED", record, None, time))
        elif before.revision != record.revision:
            events.append(Event("MODIFIED", record, before, time))
    return events
