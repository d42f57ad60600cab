"""A queue of keys: each worked on by one worker at a time, and again if it changed meanwhile.

Source: client-go util/workqueue (the invariants, not the code).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from machinery import metrics


class WorkQueue:
    """Keys that need work.

    Invariants: a key is in the queue at most once; a key being worked on is not given to a second worker; a key added
    while it is being worked on is queued again when that work ends.

    What is in the queue when `begin` is called is backlog: from then on every second key that is given out is one that
    has changed since, if there is one, so that a change need not wait for all that was there before it.
    """

    def __init__(self, name: str) -> None:
        self._ready: deque[str] = deque()
        self._backlog: OrderedDict[str, None] = OrderedDict()  # ready as well
        self._backlog_is_next = False
        self._waiting: set[str] = set()  # needs work: is ready, or will be when its current work ends
        self._working: dict[str, float] = {}  # since when
        self._ready_since: dict[str, float] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._adds = metrics.WORKQUEUE_ADDS.labels(name)
        self._depth = metrics.WORKQUEUE_DEPTH.labels(name)
        self._waited = metrics.WORKQUEUE_WAITED.labels(name)
        metrics.WORKQUEUE_UNFINISHED.labels(name).set_function(lambda: sum(self._ages()))
        metrics.WORKQUEUE_LONGEST.labels(name).set_function(lambda: max(self._ages(), default=0.0))

    def __len__(self) -> int:
        return len(self._ready) + len(self._backlog)

    def begin(self) -> None:
        """Take what is queued now for backlog."""
        self._backlog.update(dict.fromkeys(self._ready))
        self._ready.clear()

    def _ages(self) -> list[float]:
        """How long each key is being worked on."""
        now = time.monotonic()
        return [now - since for since in self._working.values()]

    def add(self, key: str) -> None:
        """Have `key` worked on soon; no effect if that is due already."""
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._waiting:
            if key in self._backlog:
                del self._backlog[key]
                self._ready.append(key)
            return
        self._waiting.add(key)
        self._adds.inc()
        if key not in self._working:
            self._push(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Have `key` worked on in `seconds`; an earlier date that stands already wins."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        standing = self._later.get(key)
        if standing is not None:
            if standing.when() <= when:
                return
            standing.cancel()
        self._later[key] = loop.call_at(when, self.add, key)

    async def get(self) -> str:
        """The next key; to be worked on inside `with queue.working(key)`."""
        while not len(self):
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # The wake-up may have been ours: pass it on, or a key would lie there with every worker asleep.
                if getter.done() and not getter.cancelled() and len(self):
                    self._wake_one()
                raise
        key = self._take()
        self._depth.set(len(self))
        self._waiting.discard(key)
        now = time.monotonic()
        self._waited.observe(now - self._ready_since.pop(key, now))
        self._working[key] = now
        return key

    def _take(self) -> str:
        if self._backlog and (self._backlog_is_next or not self._ready):
            self._backlog_is_next = False
            return self._backlog.popitem(last=False)[0]
        self._backlog_is_next = True
        return self._ready.popleft()

    @contextmanager
    def working(self, key: str) -> Iterator[None]:
        """Marks the end of the work on `key`, however it ends."""
        try:
            yield
        finally:
            self._working.pop(key, None)
            if key in self._waiting:
                self._push(key)

    def close(self) -> None:
        """Cancel what is planned for later."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()

    def _push(self, key: str) -> None:
        self._ready.append(key)
        self._ready_since[key] = time.monotonic()
        self._depth.set(len(self))
        self._wake_one()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
