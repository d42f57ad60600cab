"""What is counted of priority and fairness, and how long the rejected are told to stay away.

Source: k8s.io/apiserver/pkg/util/flowcontrol/{metrics,dropped_requests_tracker.go}.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from controlplane.apiserver.histogram import Histograms

_MOST_RETRY_SECONDS = 32
_WAIT_BUCKETS = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)


@dataclass(slots=True)
class _Retry:
    """Of one level: the advice, and how many were rejected in this second."""

    seconds: int = 1
    second: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Tally:
    """Counts by (priority level, flow schema)."""

    dispatches: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejections: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By (priority level, flow schema, reason)."""
    waits: Histograms = field(default_factory=lambda: Histograms(_WAIT_BUCKETS))
    """By (priority level, flow schema, whether executed), in seconds."""
    _retries: dict[str, _Retry] = field(default_factory=dict)

    def dispatched(self, level: str, schema: str) -> None:
        """A request begins."""
        self.dispatches[level, schema] += 1

    def waited(self, level: str, schema: str, seconds: float, *, executed: bool) -> None:
        """A request has been in a queue."""
        self.waits.observe((level, schema, "true" if executed else "false"), seconds)

    def rejected(self, level: str, schema: str, reason: str, now: float) -> None:
        """A request is not served."""
        self.rejections[level, schema, reason] += 1
        retry = self._retries.setdefault(level, _Retry())
        if int(now) != retry.second:
            if retry.dropped >= 3 * retry.seconds:
                retry.seconds = min(_MOST_RETRY_SECONDS, retry.seconds * 2)
            elif retry.dropped < retry.seconds:
                retry.seconds = max(1, retry.seconds - 1)
            retry.second, retry.dropped = int(now), 0
        retry.dropped += 1

    def retry_seconds(self, level: str) -> int:
        """What a rejected client is told in Retry-After."""
        found = self._retries.get(level)
        return found.seconds if found is not None else 1
