"""Many like writes, in batches that double: a write that is bound to fail (quota) fails once, not a thousand times.

Source: k8s.io/kubernetes/pkg/controller/replicaset/replica_set.go, "slowStartBatch".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchResult:
    """How many writes succeeded, how many were never tried, and the first error."""

    succeeded: int
    skipped: int
    error: Exception | None


async def slow_start(count: int, write: Callable[[int], Awaitable[None]], initial: int = 1) -> BatchResult:
    """Call `write(0)` … `write(count - 1)` in batches of 1, 2, 4, …; stop after the first batch with an error."""
    done = succeeded = 0
    batch = min(count, initial)
    while batch > 0:
        results = await asyncio.gather(*(write(i) for i in range(done, done + batch)), return_exceptions=True)
        done += batch
        errors = [r for r in results if isinstance(r, Exception)]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        succeeded += batch - len(errors)
        if errors:
            return BatchResult(succeeded, count - done, errors[0])
        batch = min(2 * batch, count - done)
    return BatchResult(succeeded, 0, None)
