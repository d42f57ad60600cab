"""Pods that wait for a node: those to try now, those that back off, and those that nothing can be done for until
something changes in the cluster.

Source: k8s.io/kubernetes/pkg/scheduler/backend/queue; KEP-4247 (hints), KEP-5142 (pop from the back-off queue).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.scheduler import metrics
from controlplane.scheduler.framework import Gate
from controlplane.scheduler.hints import Change, Hints
from controlplane.scheduler.pod import Pod

_FLUSH_EVERY_SECONDS = 30.0
_REMEMBERED_CHANGES = 256


@dataclass
class Waiting:
    """A pod with its history in the queue; times are the loop's clock."""

    pod: Pod
    first_seen: float
    attempts: int = 0
    first_attempt: float | None = None
    failed_plugins: frozenset[str] = frozenset()
    failed_at: float = 0.0
    gated_by: str = ""
    moves_seen: int = 0  # how many cluster changes there had been when the attempt began
    queued: int = field(default=0, repr=False)  # which entry of a heap is the valid one


_Heap = list[tuple[float, int, Waiting]]


class SchedulingQueue:
    """Highest priority first, then who has waited longest since it came or was tried. One consumer."""

    def __init__(
        self,
        hints: Hints,
        gates: Mapping[str, Sequence[Gate]],
        *,
        initial_backoff_seconds: float = 1.0,
        max_backoff_seconds: float = 10.0,
        flush_seconds: float = 300.0,
    ) -> None:
        """`gates`: the plugins that may keep pods out, by schedulerName.

        `flush_seconds`: nobody waits longer without another try, whatever happens in the cluster.
        """
        self._hints = hints
        self._gates = gates
        self._initial, self._max = initial_backoff_seconds, max_backoff_seconds
        self._flush = flush_seconds
        self._active: list[tuple[int, float, int, Waiting]] = []
        self._backoff: _Heap = []
        self._errors: _Heap = []  # back-off after something went wrong: never cut short
        self._unschedulable: dict[frozenset[str], dict[str, Waiting]] = {}  # by the plugins that turned pods away
        self._gated: dict[str, Waiting] = {}
        self._known: dict[str, Waiting] = {}
        self._ids = itertools.count(1)
        self._wake = asyncio.Event()
        self._changes: deque[Change] = deque(maxlen=_REMEMBERED_CHANGES)
        self._moves = 0
        self._flushed_at = 0.0

    # -- pods --------------------------------------------------------------------------------------------------------

    def add(self, pod: Pod) -> None:
        """A pod waits for a node (for the first time, or it has changed)."""
        known = self._known.get(pod.key)
        if known is not None and known.pod.uid == pod.uid:
            known.pod = pod
            if pod.key not in self._gated and not self._leave_unschedulable(known):
                return
            self._gated.pop(pod.key, None)
            self._enter(known, "PodUpdate")
            return
        if known is not None:
            self.remove(pod.key)
        entry = self._known[pod.key] = Waiting(pod, asyncio.get_running_loop().time())
        self._enter(entry, "PodAdd")

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
            self._leave_unschedulable(entry)
        self._gated.pop(key, None)

    def known(self, key: str) -> Pod | None:
        """The pod as it waits, or is being tried."""
        entry = self._known.get(key)
        return entry.pod if entry else None

    async def get(self) -> Waiting:
        """The next pod to try."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._release(now)
            entry = self._pop()
            if entry is not None:
                entry.queued = 0
                entry.attempts += 1
                entry.first_attempt = now if entry.first_attempt is None else entry.first_attempt
                entry.moves_seen = self._moves
                return entry
            self._wake.clear()
            wait = min(self._errors[0][0] - now if self._errors else _FLUSH_EVERY_SECONDS, _FLUSH_EVERY_SECONDS)
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
        missed = self._moves - entry.moves_seen
        recent = list(self._changes)[len(self._changes) - missed :] if missed else []
        if missed > len(self._changes) or any(self._hints.may_help(entry.pod, plugins, each) for each in recent):
            # What might help happened while the attempt was running.
            self._back_off(entry, self._backoff, "ScheduleAttemptFailure")
        else:
            self._unschedulable.setdefault(plugins, {})[entry.pod.key] = entry
            metrics.INCOMING.labels("unschedulable", "ScheduleAttemptFailure").inc()

    def retry(self, entry: Waiting) -> None:
        """Something failed that has nothing to do with the nodes: try again after the back-off."""
        if self._known.get(entry.pod.key) is entry:
            entry.failed_at = asyncio.get_running_loop().time()
            self._back_off(entry, self._errors, "ScheduleAttemptFailure")

    def activate(self, key: str) -> None:
        """Try this pod now, whatever it waits for."""
        entry = self._known.get(key)
        if entry is not None and self._leave_unschedulable(entry):
            self._enter(entry, "ForceActivate")

    # -- the cluster -------------------------------------------------------------------------------------------------

    def cluster_changed(self, change: Change) -> None:
        """Something changed that may help pods which plugins turned away."""
        self._moves += 1
        self._changes.append(change)
        for key, entry in list(self._gated.items()):
            if entry.gated_by != "SchedulingGates" and self._hints.interested((entry.gated_by,), change.event):
                del self._gated[key]
                self._enter(entry, change.event)
        for plugins, entries in list(self._unschedulable.items()):
            if not self._hints.interested(plugins, change.event):
                continue
            helped: dict[int, bool] = {}
            for entry in list(entries.values()):
                number = entry.pod.shape.number
                if number not in helped:
                    helped[number] = self._hints.may_help(entry.pod, plugins, change)
                if helped[number]:
                    self._leave_unschedulable(entry)
                    self._back_off(entry, self._backoff, change.event)

    def pending(self) -> dict[str, int]:
        """How many pods wait in which way: active, backoff, unschedulable, gated."""
        return {
            "active": sum(1 for _, _, number, entry in self._active if entry.queued == number),
            "backoff": sum(1 for _, number, entry in (*self._backoff, *self._errors) if entry.queued == number),
            "unschedulable": sum(map(len, self._unschedulable.values())),
            "gated": len(self._gated),
        }

    def unschedulable_by_plugin(self) -> dict[tuple[str, str], int]:
        """(plugin, profile) → pods that it turned away."""
        found: dict[tuple[str, str], int] = {}
        for plugins, entries in self._unschedulable.items():
            for entry in entries.values():
                for plugin in plugins:
                    which = (plugin, entry.pod.scheduler_name)
                    found[which] = found.get(which, 0) + 1
        return found

    # -- inside ------------------------------------------------------------------------------------------------------

    def _enter(self, entry: Waiting, event: str) -> None:
        for plugin in self._gates.get(entry.pod.scheduler_name, ()):
            if plugin.gate(entry.pod) is not None:
                entry.queued = 0
                entry.gated_by = plugin.name
                self._gated[entry.pod.key] = entry
                metrics.INCOMING.labels("gated", event).inc()
                return
        self._activate(entry, event)

    def _leave_unschedulable(self, entry: Waiting) -> bool:
        entries = self._unschedulable.get(entry.failed_plugins)
        if entries is None or entries.pop(entry.pod.key, None) is None:
            return False
        if not entries:
            del self._unschedulable[entry.failed_plugins]
        return True

    def _backoff_seconds(self, entry: Waiting) -> float:
        return min(self._initial * 2.0 ** min(max(entry.attempts - 1, 0), 30), self._max)

    def _back_off(self, entry: Waiting, heap: _Heap, event: str) -> None:
        until = entry.failed_at + self._backoff_seconds(entry)
        if until <= asyncio.get_running_loop().time():
            self._enter(entry, event)
            return
        metrics.INCOMING.labels("backoff", event).inc()
        entry.queued = next(self._ids)
        heapq.heappush(heap, (until, entry.queued, entry))
        self._wake.set()

    def _activate(self, entry: Waiting, event: str) -> None:
        metrics.INCOMING.labels("active", event).inc()
        entry.queued = next(self._ids)
        waiting_since = max(entry.first_seen, entry.failed_at)  # who has just been tried stands behind who has not
        heapq.heappush(self._active, (-entry.pod.priority, waiting_since, entry.queued, entry))
        self._wake.set()

    def _pop(self) -> Waiting | None:
        while self._active:
            _, _, number, entry = heapq.heappop(self._active)
            if entry.queued == number:
                return entry
        while self._backoff:  # nobody else is waiting: no reason to let this one wait
            _, number, entry = heapq.heappop(self._backoff)
            if entry.queued == number:
                return entry
        return None

    def _release(self, now: float) -> None:
        """Bring back who has waited long enough."""
        for heap in (self._backoff, self._errors):
            while heap and heap[0][0] <= now:
                _, number, entry = heapq.heappop(heap)
                if entry.queued == number:
                    self._enter(entry, "BackoffComplete")
        if now - self._flushed_at < _FLUSH_EVERY_SECONDS:
            return
        self._flushed_at = now
        waiting = [entry for entries in self._unschedulable.values() for entry in entries.values()]
        for entry in waiting:
            if now - entry.failed_at >= self._flush:
                self._leave_unschedulable(entry)
                self._enter(entry, "UnschedulableTimeout")
