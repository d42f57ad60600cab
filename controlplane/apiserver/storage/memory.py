"""Storage in memory: for tests and `navarch dev`.

Everything is gone with the process, unless a journal keeps it (`sqlite.py`).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.apiserver.storage.contract import Batch, Change, Stored
from machinery.errors import RevisionCompacted, RevisionConflict, StorageUnavailable
from machinery.log import get_logger

log = get_logger(__name__)

_HISTORY = 100_000  # changes kept for watches and reads of the past
_RETRY_SECONDS = 10.0  # when a journal could not take the end of an expired key


@dataclass(frozen=True, slots=True)
class Kept:
    """What a journal holds: each key with the time (of `time.time`) at which it expires, 0 for never."""

    revision: int
    entries: Sequence[tuple[Stored, float]]


class Journal(Protocol):
    """Where writes are made lasting before they take effect. Methods raise StorageUnavailable."""

    def load(self) -> Kept:
        """Everything that was written, in the order of keys."""
        ...

    def put(self, stored: Stored, expires_at: float) -> None:
        """Keep a write."""
        ...

    def delete(self, key: str, revision: int) -> None:
        """Keep a deletion."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """A change and what was there before it, from which the past is rebuilt."""

    change: Change
    before: Stored | None


class MemoryStorage:
    """A revisioned map that fulfils the storage contract; make and use it inside one event loop.

    With a journal it begins with what that has kept, but without the history of it: watches and reads of what was
    before are refused as compacted.
    """

    progress_requests = True

    def __init__(self, *, history: int = _HISTORY, journal: Journal | None = None) -> None:
        self._revision = 1
        self._oldest = 1  # reads of revisions below this are refused
        self._dropped = 0  # the last change that is no longer in the history
        self._data: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._history: deque[_Entry] = deque()
        self._history_limit = history
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed: set[asyncio.Event] = set()
        self._journal = journal
        if journal is not None:
            self._restore(journal.load())

    def _restore(self, kept: Kept) -> None:
        self._revision = self._oldest = self._dropped = max(self._revision, kept.revision)
        now = time.time()
        for stored, expires_at in kept.entries:
            self._data[stored.key] = stored
            self._keys.append(stored.key)
            if expires_at:
                self._expire_after(max(0.0, expires_at - now), stored.key, stored.revision)

    async def get(self, key: str) -> tuple[Stored | None, int]:
        """See the contract."""
        return self._data.get(key), self._revision

    async def list(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> tuple[Sequence[Stored], int, bool]:
        """See the contract."""
        if revision and revision < self._oldest:
            raise RevisionCompacted(oldest_revision=self._oldest)
        begin = max(start, prefix)
        if not revision or revision >= self._revision:
            first = bisect_left(self._keys, begin)
            last = bisect_left(self._keys, _after(prefix))
            end = min(last, first + limit) if limit else last
            return [self._data[key] for key in self._keys[first:end]], self._revision, end < last
        found = self._past(prefix, revision)
        chosen = [found[key] for key in sorted(found) if key >= begin]
        return (chosen[:limit] if limit else chosen), revision, bool(limit) and len(chosen) > limit

    def _past(self, prefix: str, revision: int) -> dict[str, Stored]:
        """What was under the prefix at a revision: the present, with later changes undone from the last one back."""
        found = {key: stored for key, stored in self._data.items() if key.startswith(prefix)}
        for entry in reversed(self._history):
            if entry.change.revision <= revision:
                break
            key = entry.change.key
            if not key.startswith(prefix):
                continue
            if entry.before is None:
                found.pop(key, None)
            else:
                found[key] = entry.before
        return found

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> int:
        """See the contract."""
        before = self._data.get(key)
        if (before.revision if before else 0) != expected:
            raise RevisionConflict(key)
        stored = Stored(key, value, self._revision + 1)
        if self._journal is not None:
            self._journal.put(stored, time.time() + ttl_seconds if ttl_seconds else 0.0)
        self._revision = stored.revision
        self._data[key] = stored
        if before is None:
            insort(self._keys, key)
        self._forget_timer(key)
        if ttl_seconds:
            self._expire_after(ttl_seconds, key, self._revision)
        self._record(Change(key, value, self._revision, before is None), before)
        return self._revision

    async def delete(self, key: str, *, expected: int) -> int:
        """See the contract."""
        before = self._data.get(key)
        if before is None or before.revision != expected:
            raise RevisionConflict(key)
        return self._remove(before)

    def _remove(self, before: Stored) -> int:
        if self._journal is not None:
            self._journal.delete(before.key, self._revision + 1)
        self._revision += 1
        del self._data[before.key]
        del self._keys[bisect_left(self._keys, before.key)]
        self._forget_timer(before.key)
        self._record(Change(before.key, None, self._revision), before)
        return self._revision

    def _expire_after(self, seconds: float, key: str, revision: int) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._expire, key, revision)

    def _expire(self, key: str, revision: int) -> None:
        stored = self._data.get(key)
        if stored is None or stored.revision != revision:
            return
        try:
            self._remove(stored)
        except StorageUnavailable as exc:
            log.warning("an expired key can't be removed yet", key=key, reason=str(exc))
            self._expire_after(_RETRY_SECONDS, key, revision)

    def _forget_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _record(self, change: Change, before: Stored | None) -> None:
        self._history.append(_Entry(change, before))
        if len(self._history) > self._history_limit:
            self._dropped = self._history.popleft().change.revision
            self._oldest = max(self._oldest, self._dropped)
        for event in self._changed:
            event.set()

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        """See the contract."""
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            seen = after
            while True:
                if seen < self._dropped:
                    raise RevisionCompacted(oldest_revision=self._oldest)
                if seen < self._revision:
                    changes = self._since(prefix, seen)
                    seen = self._revision
                    yield Batch(changes, seen)
                    continue
                changed.clear()
                await changed.wait()
        finally:
            self._changed.discard(changed)

    def _since(self, prefix: str, revision: int) -> Sequence[Change]:
        found = []
        for entry in reversed(self._history):
            if entry.change.revision <= revision:
                break
            if entry.change.key.startswith(prefix):
                found.append(entry.change)
        found.reverse()
        return found

    async def compact(self, revision: int) -> None:
        """See the contract."""
        self._oldest = max(self._oldest, min(revision, self._revision))
        while self._history and self._history[0].change.revision < self._oldest:
            self._dropped = self._history.popleft().change.revision
        for event in self._changed:
            event.set()

    async def close(self) -> None:
        """See the contract."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._journal is not None:
            self._journal.close()


def _after(prefix: str) -> str:
    """The first key that sorts after all keys with the prefix (etcd's range end)."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
