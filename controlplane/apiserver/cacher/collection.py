"""All objects of one resource, ordered by key, with a ring of recent events from which watches resume."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from controlplane.apiserver.cacher.record import ADDED, DELETED, MODIFIED, Event, Record
from controlplane.apiserver.cacher.selected import Selectors, Test
from machinery.errors import Expired

FRESH_SECONDS = (
    75.0  # events younger than this are kept as long as there is room. Source: watch cache, eventFreshDuration
)
_FEWEST, _MOST = 100, 20_000  # events kept: at least, at most

_SHARE_SECONDS = 0.000_4  # a round of deliveries that wrote to n watchers is followed by the next after n times this,
_LONGEST_SECONDS = 0.05  # or this at the latest: waking clients costs more than anything else of an event

Deliver = Callable[[Sequence[Event]], bool]
"""Takes the events of one batch and says whether something was written; must not block nor raise."""


class Collection:
    """What is stored under one prefix. Changed by the cacher alone."""

    def __init__(self, prefix: str, revision: int) -> None:
        """`revision`: from when on all events are known."""
        self.prefix = prefix
        self.records: dict[str, Record] = {}
        self.changed = revision  # the revision of the last change
        self.size_bytes = 0  # of all objects together
        self._keys: list[str] = []
        self._events: deque[Event] = deque()
        self._complete_after = revision  # watches from this revision on find all they need in the ring
        self._subscribers: dict[object, tuple[Deliver, Callable[[], None]]] = {}
        self._selectors = Selectors(self)
        self._undelivered: list[Event] = []
        self._next_round = 0.0  # when the next round of deliveries may begin (loop's clock)
        self._round: asyncio.TimerHandle | None = None

    def get(self, key: str) -> Record | None:
        """The object with this key (`namespace/name` or `name`)."""
        return self.records.get(key)

    def selected(self, text: str, owner: object, test: Test, namespace: str = "", start: str = "") -> list[Record]:
        """Like `list`, only those that pass a test; equal texts of the same owner mean equal tests."""
        records = self.records
        return [records[key] for key in _between(self._selectors.keys(text, owner, test), namespace, start)]

    def list(self, namespace: str = "", start: str = "") -> list[Record]:
        """Records in the order of their keys, of all or of one namespace, from the key `start` on."""
        records = self.records
        return [records[key] for key in _between(self._keys, namespace, start)]

    def load(self, records: Iterable[Record]) -> None:
        """Fill the empty collection."""
        self.records = {record.key: record for record in records}
        self._keys = sorted(self.records)
        self.size_bytes = sum(len(record.value) for record in self.records.values())
        self.changed = max((r.revision for r in self.records.values()), default=self.changed)

    def put(self, record: Record, time: float) -> Event:
        """A new object or a new state of one; the event is to be published with its batch."""
        previous = self.records.get(record.key)
        self.records[record.key] = record
        self.size_bytes += len(record.value)
        if previous is None:
            insort(self._keys, record.key)
        else:
            self.size_bytes -= len(previous.value)
        return self._note(Event(MODIFIED if previous else ADDED, record, previous, time))

    def remove(self, key: str, revision: int, time: float) -> Event | None:
        """An object is gone; None if it was not known."""
        previous = self.records.pop(key, None)
        if previous is None:
            return None
        self.size_bytes -= len(previous.value)
        del self._keys[bisect_left(self._keys, key)]
        return self._note(Event(DELETED, previous.at(revision), previous, time))

    def _note(self, event: Event) -> Event:
        self.changed = event.record.revision
        events = self._events
        events.append(event)
        while len(events) > _FEWEST and (len(events) > _MOST or event.time - events[0].time > FRESH_SECONDS):
            self._complete_after = events.popleft().record.revision
        return event

    @property
    def watchers(self) -> int:
        """How many listen."""
        return len(self._subscribers)

    def publish(self, events: Sequence[Event]) -> None:
        """Hand a batch to all who listen: at once, or together with others soon if the last was handed to many.

        Each watcher written to costs a system call and wakes a client, so that events which follow each other closely
        go in one write when there are many watchers: with five of them a round comes after two milliseconds at most.
        """
        if not self._subscribers:
            return
        self._undelivered.extend(events)
        if self._round is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_round:
            self.deliver()
        else:
            self._round = loop.call_at(self._next_round, self.deliver)

    def deliver(self) -> None:
        """Hand over now what has not been handed over yet."""
        if self._round is not None:
            self._round.cancel()
            self._round = None
        events, self._undelivered = self._undelivered, []
        if events:
            written = sum([deliver(events) for deliver, _ in list(self._subscribers.values())])
            self._next_round = asyncio.get_running_loop().time() + min(written * _SHARE_SECONDS, _LONGEST_SECONDS)

    def since(self, revision: int) -> Sequence[Event]:
        """Events after a revision.

        Raises:
            Expired: they are not all kept any more.
        """
        if revision < self._complete_after:
            raise Expired(f"too old resource version: {revision} ({self._complete_after})")
        found = []
        for event in reversed(self._events):
            if event.record.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    def subscribe(self, token: object, deliver: Deliver, closed: Callable[[], None]) -> None:
        """Have batches delivered until `unsubscribe`; `closed` is called if the sequence of events is broken."""
        self._subscribers[token] = (deliver, closed)

    def unsubscribe(self, token: object) -> None:
        """Deliver no more."""
        self._subscribers.pop(token, None)

    def reset(self, records: Iterable[Record], revision: int) -> None:
        """Start anew from a listing, because events were missed: watches end, and none resumes from before."""
        self._events.clear()
        self._undelivered.clear()
        self._selectors.clear()
        self._complete_after = revision
        self.load(records)
        self.changed = revision
        ended = list(self._subscribers.values())
        self._subscribers.clear()
        for _, closed in ended:
            closed()


def _between(keys: Sequence[str], namespace: str, start: str) -> Sequence[str]:
    """Of keys in order those of one namespace ("": of all) and not before `start`."""
    first, last = 0, len(keys)
    if namespace:
        first = bisect_left(keys, namespace + "/")
        last = bisect_left(keys, namespace + "0", first)  # "0" comes after "/"
    if start:
        first = bisect_left(keys, start, first, last)
    return keys[first:last]
