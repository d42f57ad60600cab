"""Growing pauses between tries, one for each key.

Source: client-go util/flowcontrol Backoff, as the kubelet uses it for containers and image pulls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    pause_seconds: float
    updated_at: float


class Backoff:
    """Pauses that double from `first_seconds` to `longest_seconds`, and start again after a long quiet time.

    Times are seconds since 1970, because events are stamped by the runtime.
    """

    def __init__(self, first_seconds: float, longest_seconds: float, now: Callable[[], float] = time.time) -> None:
        self._first, self._longest, self._now = first_seconds, longest_seconds, now
        self._entries: dict[str, _Entry] = {}

    def remaining(self, key: str, since: float) -> float:
        """Seconds that are left to wait after an event at `since`; 0 if there is nothing to wait for."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated_at > 2 * self._longest:
            return 0.0
        return max(0.0, entry.pause_seconds - (self._now() - since))

    def pause(self, key: str) -> float:
        """The present pause of this key."""
        entry = self._entries.get(key)
        return entry.pause_seconds if entry is not None else 0.0

    def next(self, key: str, at: float | None = None) -> float:
        """A try begins, or failed: the next pause is twice as long. Returns it."""
        at = self._now() if at is None else at
        entry = self._entries.get(key)
        if entry is None or at - entry.updated_at > 2 * self._longest:
            entry = self._entries[key] = _Entry(min(self._first, self._longest), 0.0)
        else:
            entry.pause_seconds = min(entry.pause_seconds * 2, self._longest)
        entry.updated_at = self._now()
        return entry.pause_seconds

    def forget(self, key: str) -> None:
        """The key succeeded, or is gone."""
        self._entries.pop(key, None)

    def forget_prefix(self, prefix: str) -> None:
        """All keys that begin so are gone."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]
