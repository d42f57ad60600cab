"""Pods that wait for a node: those to try now, those that back off, and those that nothing can be done for until
something changes in the cluster.

Source: k8s.io/kubernetes/pkg/scheduler/backend/queue.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field

from controlplane.scheduler.pod import Pod

_FLUSH_SECONDS = 300.0  # nobody waits longer without another try, whatever events say


@dataclass
class Waiting:
    """A pod with its history in the queue; times are the loop's clock."""

    pod: Pod
    first_seen: float
    attempts: int = 0
    failed_plugins: frozenset[str] = frozenset()
    failed_at: float = 0.0
    moves_seen: int = 0  # how many cluster changes there had been when the attempt began
    queued: int = field(default=0, repr=False)  # which entry of the heap is the valid one


class SchedulingQueue:
    """Highest priority first, then first come first served. One consumer."""

    def __init__(self, *, initial_backoff_seconds: float = 1.0, max_backoff_seconds: float = 10.0) -> None:
        self._initial, self._max = initial_backoff_seconds, max_backoff_seconds
        self._active: list[tuple[int, float, int, Waiting]] = []
        self._backoff: list[tuple[float, int, Waiting]] = []
        self._unschedulable: dict[str, Waiting] = {}
        self._gated: dict[str, Waiting] = {}
        self._known: dict[str, Waiting] = {}
        self._ids = itertools.count(1)
        self._wake = asyncio.Event()
        self._changes: list[tuple[int, frozenset[str] | None]] = []  # recent (move number, plugins helped)
        self._moves = 0
        self._flushed_at = 0.0

    def add(self, pod: Pod) -> None:
        """A pod waits for a node (for the first time, or it has changed)."""
        known = self._known.get(pod.key)
        if known is not None and known.pod.uid == pod.uid:
            known.pod = pod
            waits = pod.key in self._gated or pod.key in self._unschedulable
            if not waits:
                return
            self._gated.pop(pod.key, None)
            self._unschedulable.pop(pod.key, None)
            entry = known
        else:
            entry = self._known[pod.key] = Waiting(pod, asyncio.get_running_loop().time())
        if pod.spec.get("schedulingGates"):
            entry.queued = 0
            self._gated[pod.key] = entry
        else:
            self._activate(entry)

    def update(self, pod: Pod) -> None:
        """The pod changed in a way that does not bear on scheduling: keep the new object, try no earlier."""
        known = self._known.get(pod.key)
        if known is not None:
            known.pod = pod

    def remove(self, key: str) -> None:
        """The pod waits no longer: bound, or gone."""
        entry = self._known.pop(key, None)
        if entry is not None:
            entry.queued = 0
        self._unschedulable.pop(key, None)
        self._gated.pop(key, None)

    async def get(self) -> Waiting:
        """The next pod to try."""
        loop = asyncio.get_running_loop()
        while True:
            self._release(loop.time())
            while self._active:
                _, _, number, entry = heapq.heappop(self._active)
                if entry.queued == number:
                    entry.queued = 0
                    entry.attempts += 1
                    entry.moves_seen = self._moves
                    return entry
            self._wake.clear()
            wait = min(self._backoff[0][0] - loop.time() if self._backoff else _FLUSH_SECONDS, _FLUSH_SECONDS / 10)
            try:
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def unschedulable(self, entry: Waiting, plugins: frozenset[str]) -> None:
        """The pod fits nowhere because of these plugins: wait until something changes that might help it."""
        if self._known.get(entry.pod.key) is not entry:
            return
        entry.failed_plugins = plugins
        entry.failed_at = asyncio.get_running_loop().time()
        missed = (helped for move, helped in self._changes if move > entry.moves_seen)
        if any(helped is None or helped & plugins for helped in missed):
            self._back_off(entry)  # what might help happened while the attempt was running
        else:
            self._unschedulable[entry.pod.key] = entry

    def retry(self, entry: Waiting) -> None:
        """Something failed that has nothing to do with the nodes: try again after the back-off."""
        if self._known.get(entry.pod.key) is entry:
            entry.failed_at = asyncio.get_running_loop().time()
            self._back_off(entry)

    def cluster_changed(self, helped: frozenset[str] | None) -> None:
        """Something changed that may help pods which these plugins ruled out (None: any)."""
        self._moves += 1
        self._changes.append((self._moves, helped))
        del self._changes[:-256]
        if not self._unschedulable:
            return
        for key, entry in list(self._unschedulable.items()):
            if helped is None or helped & entry.failed_plugins:
                del self._unschedulable[key]
                self._back_off(entry)

    def activate(self, key: str) -> None:
        """Try this pod now, whatever it waits for."""
        entry = self._unschedulable.pop(key, None)
        if entry is not None:
            self._activate(entry)

    def pending(self) -> dict[str, int]:
        """How many pods wait in which way: active, backoff, unschedulable, gated."""
        active = sum(1 for _, _, number, entry in self._active if entry.queued == number)
        backing_off = sum(1 for _, number, entry in self._backoff if entry.queued == number)
        return {
            "active": active,
            "backoff": backing_off,
            "unschedulable": len(self._unschedulable),
            "gated": len(self._gated),
        }

    def _backoff_seconds(self, entry: Waiting) -> float:
        return min(self._initial * 2.0 ** min(max(entry.attempts - 1, 0), 30), self._max)

    def _back_off(self, entry: Waiting) -> None:
        until = entry.failed_at + self._backoff_seconds(entry)
        if until <= asyncio.get_running_loop().time():
            self._activate(entry)
            return
        entry.queued = next(self._ids)
        heapq.heappush(self._backoff, (until, entry.queued, entry))
        self._wake.set()

    def _activate(self, entry: Waiting) -> None:
        entry.queued = next(self._ids)
        heapq.heappush(self._active, (-entry.pod.priority, entry.first_seen, entry.queued, entry))
        self._wake.set()

    def _release(self, now: float) -> None:
        """Bring back who has waited long enough."""
        while self._backoff and self._backoff[0][0] <= now:
            _, number, entry = heapq.heappop(self._backoff)
            if entry.queued == number:
                self._activate(entry)
        if now - self._flushed_at < _FLUSH_SECONDS / 10:
            return
        self._flushed_at = now
        for key, entry in list(self._unschedulable.items()):
            if now - entry.failed_at >= _FLUSH_SECONDS:
                del self._unschedulable[key]
                self._activate(entry)
