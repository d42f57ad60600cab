"""One priority level: seats that requests take, and queues of those that wait for some.

Queues are served fairly: each request carries the virtual time at which it would begin if all queues were served bit
by bit in turn, and the one with the earliest is next (start-time fair queueing), whatever requests cost.

Source: KEP-1040 "Fair queuing"; k8s.io/apiserver/pkg/util/{flowcontrol/fairqueuing/queueset,shufflesharding}.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from machinery.api.meta import Object

CONCURRENCY_LIMIT, QUEUE_FULL, TIMED_OUT, CANCELLED = "concurrency-limit", "queue-full", "time-out", "cancelled"


class Rejected(Exception):
    """A request that is not served; the reason is that of the metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """A PriorityLevelConfiguration, read."""

    name: str
    uid: str
    exempt: bool
    shares: int
    lendable_percent: int
    borrowing_percent: int | None
    """None: as much as there is."""
    queues: int
    """0: nobody waits."""
    hand: int
    queue_length: int


def read_level(obj: Object) -> LevelSpec:
    """From its object, which is valid and has its defaults."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    exempt = spec.get("type") == "Exempt"
    own = spec.get("exempt" if exempt else "limited") or {}
    response = own.get("limitResponse") or {}
    queuing = (response.get("queuing") or {}) if response.get("type") == "Queue" else {}
    shares = own.get("nominalConcurrencyShares")
    return LevelSpec(
        obj["metadata"]["name"],
        obj["metadata"].get("uid", ""),
        exempt,
        (0 if exempt else 30) if shares is None else shares,
        own.get("lendablePercent") or 0,
        own.get("borrowingLimitPercent"),
        (queuing.get("queues") or 64) if queuing or response.get("type") == "Queue" else 0,
        queuing.get("handSize") or 8,
        queuing.get("queueLengthLimit") or 50,
    )


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in a queue."""

    seats: int
    start: float
    granted: asyncio.Future[None]
    flow: str
    arrived: float


@dataclass(slots=True, eq=False)
class Queue:
    """Requests of some flows, in their order."""

    index: int
    waiting: deque[Waiter] = field(default_factory=deque)
    finish: float = 0.0
    """When, in virtual time, the last request that went through here will be done."""
    seats: int = 0
    """That requests which waited here now hold."""

    @property
    def work(self) -> int:
        """How much is ahead of who comes now."""
        return self.seats + sum(waiter.seats for waiter in self.waiting)


class Level:
    """The state of a priority level in this server. For use by one event loop."""

    def __init__(self, spec: LevelSpec, wait_seconds: float) -> None:
        self.spec = spec
        self.limit = 1
        """Seats there are now: its own, without those lent, with those borrowed."""
        self.nominal = 1
        self.seats = 0
        """Seats taken."""
        self.executing = 0
        self.most = 0
        """The highest demand for seats since it was last looked at."""
        self.queues: list[Queue] = []
        self._wait_seconds = wait_seconds
        self._waiting = 0
        self._waiting_seats = 0
        self._virtual = 0.0
        self.take_spec(spec)

    def take_spec(self, spec: LevelSpec) -> None:
        """Go on under a changed configuration; who waits goes on waiting."""
        self.spec = spec
        while len(self.queues) < spec.queues:
            self.queues.append(Queue(len(self.queues)))
        while len(self.queues) > max(spec.queues, 1) and not self.queues[-1].waiting and not self.queues[-1].seats:
            self.queues.pop()

    @property
    def waiting(self) -> int:
        """Requests in queues."""
        return self._waiting

    @property
    def waiting_seats(self) -> int:
        """What they need."""
        return self._waiting_seats

    def free(self, seats: int) -> bool:
        """Whether a request that needs so many could begin now."""
        return self.spec.exempt or self.seats + seats <= self.limit or not self.seats

    def begin(self, seats: int) -> bool:
        """Take seats if there are, and nobody is before the request; False if it has to `wait`."""
        if self._waiting or not self.free(seats):
            self.most = max(self.most, self.seats + self._waiting_seats + seats)
            return False
        self.executing += 1
        self.seats += seats
        if self.seats > self.most:
            self.most = self.seats
        return True

    def end(self, seats: int, queue: Queue | None) -> None:
        """Give seats back."""
        self.executing -= 1
        self.seats -= seats
        if queue is not None:
            queue.seats -= seats
        if self._waiting:
            self.dispatch()

    async def wait(self, seats: int, flow: str) -> Queue:
        """Wait for seats, in a queue of the flow's hand; the queue, for `end`. Raises Rejected."""
        if not self.spec.queues:
            raise Rejected(CONCURRENCY_LIMIT)
        queue = min(self._hand(flow), key=lambda q: q.work)
        if len(queue.waiting) >= self.spec.queue_length:
            raise Rejected(QUEUE_FULL)
        loop = asyncio.get_running_loop()
        start = max(self._virtual, queue.finish)
        queue.finish = start + seats
        waiter = Waiter(seats, start, loop.create_future(), flow, loop.time())
        queue.waiting.append(waiter)
        self._waiting += 1
        self._waiting_seats += seats
        self.dispatch()
        timer = loop.call_later(self._wait_seconds, self._time_out, queue, waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.end(seats, queue)  # seats came when nobody wanted them any more
            else:
                self._leave(queue, waiter)
            raise
        finally:
            timer.cancel()
        return queue

    def _hand(self, flow: str) -> Iterator[Queue]:
        """The queues that a flow may use: few flows have all of them in common.

        Source: KEP-1040, "Shuffle sharding".
        """
        count = min(len(self.queues), self.spec.queues)
        entropy = hash(flow) & 0xFFFFFFFFFFFFFFF
        taken: list[int] = []
        for dealt in range(min(self.spec.hand, count)):
            entropy, card = divmod(entropy, count - dealt)
            for earlier in taken:
                if card >= earlier:
                    card += 1
            taken.append(card)
            taken.sort()
            yield self.queues[card]

    def _time_out(self, queue: Queue, waiter: Waiter) -> None:
        if not waiter.granted.done():
            self._leave(queue, waiter)
            waiter.granted.set_exception(Rejected(TIMED_OUT))

    def _leave(self, queue: Queue, waiter: Waiter) -> None:
        if waiter in queue.waiting:
            queue.waiting.remove(waiter)
            self._waiting -= 1
            self._waiting_seats -= waiter.seats

    def dispatch(self) -> None:
        """Let requests begin, the one that is due first, as long as there are seats."""
        while self._waiting:
            queue = min((q for q in self.queues if q.waiting), key=lambda q: q.waiting[0].start)
            waiter = queue.waiting[0]
            if not self.free(waiter.seats):
                return
            queue.waiting.popleft()
            self._waiting -= 1
            self._waiting_seats -= waiter.seats
            if waiter.granted.done():
                continue
            self._virtual = max(self._virtual, waiter.start)
            self.executing += 1
            self.seats += waiter.seats
            queue.seats += waiter.seats
            waiter.granted.set_result(None)
