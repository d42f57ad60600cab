"""When watchers are told: at once, and together when there are many of them and events follow each other closely."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Event, Record


class Watchers:
    """So many watchers of a collection, and the batches that the first was handed."""

    def __init__(self, collection: Collection, count: int) -> None:
        self.batches: list[list[int]] = []
        self.ended = 0
        self._more = asyncio.Event()
        for number in range(count):
            collection.subscribe(object(), self.first if not number else self.other, self.end)

    def first(self, events: Sequence[Event]) -> bool:
        self.batches.append([event.record.revision for event in events])
        self._more.set()
        return True

    def other(self, events: Sequence[Event]) -> bool:
        return bool(events)

    def end(self) -> None:
        self.ended += 1

    async def told(self, revisions: int) -> None:
        """Wait until so many events have been handed over."""
        async with asyncio.timeout(5):
            while sum(map(len, self.batches)) < revisions:
                self._more.clear()
                await self._more.wait()


def change(collection: Collection, revision: int) -> None:
    record = Record("default/web", b'{"metadata":{"resourceVersion":"%d"}}' % revision, revision)
    collection.publish([collection.put(record, 0.0)])


async def test_the_first_event_is_told_at_once_and_those_that_follow_go_together() -> None:
    collection = Collection("pods/", 1)
    watchers = Watchers(collection, 100)
    for revision in (2, 3, 4, 5):
        change(collection, revision)
    assert watchers.batches == [[2]]
    await watchers.told(4)
    assert watchers.batches == [[2], [3, 4, 5]]


async def test_who_does_not_care_for_an_event_does_not_delay_the_next() -> None:
    collection = Collection("pods/", 1)
    watchers = Watchers(collection, 1)
    for _ in range(10_000):
        collection.subscribe(object(), lambda events: False, lambda: None)
    change(collection, 2)
    await asyncio.sleep(0.001)
    change(collection, 3)
    assert watchers.batches == [[2], [3]]


async def test_what_waits_can_be_told_before_something_else_is_said() -> None:
    collection = Collection("pods/", 1)
    watchers = Watchers(collection, 100)
    change(collection, 2)
    change(collection, 3)
    collection.deliver()
    assert watchers.batches == [[2], [3]]
    collection.deliver()
    assert watchers.batches == [[2], [3]]


async def test_a_collection_that_starts_anew_forgets_what_waits() -> None:
    collection = Collection("pods/", 1)
    watchers = Watchers(collection, 100)
    change(collection, 2)
    change(collection, 3)
    collection.reset([], 9)
    assert watchers.ended == 100
    later = Watchers(collection, 1)
    change(collection, 10)
    await later.told(1)
    assert later.batches == [[10]]
    assert watchers.batches == [[2]]
