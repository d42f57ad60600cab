"""Compaction: old revisions are dropped now and again, by one of the API servers.

Each server writes the revision it sees under one key; who wins the write compacts what was current at the previous
round, so that between one and two intervals of history are kept.

Source: k8s.io/apiserver/pkg/storage/etcd3/compact.go.
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.apiserver.storage.contract import Storage
from machinery.clock import Clock
from machinery.errors import NavarchError, RevisionConflict
from machinery.log import get_logger

log = get_logger(__name__)

KEY = "compact_rev_key"


async def compact_regularly(
    storage: Storage, prefix: str, interval_seconds: float, clock: Clock, dropped: Callable[[int], None]
) -> None:
    """Compact every so often until cancelled; `dropped` is told before which revision there is nothing any more."""
    key = prefix + KEY
    before = 0
    while True:
        await clock.sleep(interval_seconds)
        try:
            following = await _round(storage, key, before)
        except NavarchError as exc:
            log.warning("compaction failed", reason=str(exc))
            continue
        if before:
            dropped(before)
        before = following


async def _round(storage: Storage, key: str, before: int) -> int:
    """Compact up to `before` (0: nothing yet) if no other server did so; the revision to compact next time."""
    stored, revision = await storage.get(key)
    try:
        written = await storage.put(key, str(revision).encode(), expected=stored.revision if stored else 0)
    except RevisionConflict:
        return revision  # another server's turn
    if before:
        await storage.compact(before)
        log.info("compacted", revision=before)
    return written
