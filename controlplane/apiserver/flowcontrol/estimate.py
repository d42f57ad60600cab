"""How many seats a request takes.

Source: k8s.io/apiserver/pkg/util/flowcontrol/request (list_work_estimator.go, mutating_work_estimator.go).
"""

from __future__ import annotations

import math

from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.routing import Query

_BYTES_PER_SEAT = 100_000
_MOST_BYTES = 1_000_000  # a list is sent bit by bit: more than this is never in memory for it
_MOST_SEATS = 10
_SHARE_OF_LEVEL = 0.15  # no request takes more of its level's seats than this
WATCHES_PER_SEAT = 10
SECONDS_PER_SEAT = 0.005  # how long the watchers of a write keep the server busy, for each seat


def most_seats(nominal: int) -> int:
    """The most that one request of a level takes."""
    return max(1, min(_MOST_SEATS, math.ceil(nominal * _SHARE_OF_LEVEL)))


def list_seats(collection: Collection, query: Query, *, single: bool) -> int:
    """Seats of a list, or of a watch that begins with all objects: by the bytes it has to move."""
    count = len(collection.records)
    if not count or single:
        return 1
    limit = query.get("limit")
    limited = min(count, int(limit)) if limit.isascii() and limit.isdigit() and int(limit) else count
    moved = min(_MOST_BYTES, limited * (collection.size_bytes // count))
    return max(1, math.ceil(moved / _BYTES_PER_SEAT))


def seats_afterwards(watchers: int) -> int:
    """Seats that a write holds a moment longer, while its event goes out to so many watchers."""
    return min(_MOST_SEATS, math.ceil(watchers / WATCHES_PER_SEAT)) if watchers >= WATCHES_PER_SEAT else 0
