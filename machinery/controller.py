"""The one loop that works a queue: counts, backs off, retries and logs failures, so that no reconcile has to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from machinery import metrics
from machinery.errors import Conflict, NavarchError, TransportError
from machinery.log import get_logger
from machinery.workqueue import WorkQueue

log = get_logger(__name__)

Reconcile = Callable[[str], Awaitable[float | None]]
"""Drives the object of a key to its desired state; returns seconds until a forced revisit, or None."""

_FIRST_RETRY_SECONDS = 0.005
_LONGEST_RETRY_SECONDS = 1000.0


class Controller:
    """A named reconcile with its queue and workers.

    A failed reconcile is retried after 5 ms, doubled each time up to 1,000 s (upstream's default rate limiter); a
    success resets that.  A conflict is normal optimistic concurrency and is retried without an error in the log.
    """

    def __init__(self, name: str, reconcile: Reconcile, *, workers: int = 5) -> None:
        self.name = name
        self.queue = WorkQueue(name)
        self._reconcile = reconcile
        self._workers = workers
        self._running = False
        self._failures: dict[str, int] = {}
        self._retries = metrics.WORKQUEUE_RETRIES.labels(name)
        self._seconds = metrics.WORKQUEUE_SECONDS.labels(name)

    def enqueue(self, key: str) -> None:
        """Have the key reconciled."""
        self.queue.add(key)

    async def check(self) -> None:
        """Whether the controller works, for /healthz. Raises NavarchError if it does not."""
        if not self._running:
            raise NavarchError(f"controller {self.name} is not running")

    async def run(self) -> None:
        """Work until cancelled: on what changes, and on what the caches were filled with."""
        self._running = True
        self.queue.begin()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            self._running = False
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            with self.queue.working(key):
                await self._once(key)

    async def _once(self, key: str) -> None:
        started = time.monotonic()
        try:
            again = await self._reconcile(key)
        except Conflict as exc:
            log.debug("conflict, trying again", controller=self.name, key=key, err=str(exc))
            self._retry(key)
        except TransportError as exc:
            log.warning("no answer, trying again", controller=self.name, key=key, err=str(exc))
            self._retry(key)
        except NavarchError as exc:
            log.error("reconcile failed", error=exc, controller=self.name, key=key)
            self._retry(key)
        except Exception as exc:  # the one worker loop: a defect in one controller stops no other
            log.error("reconcile failed", error=exc, trace=True, controller=self.name, key=key)
            self._retry(key)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.queue.add_after(key, again)
        self._seconds.observe(time.monotonic() - started)

    def _retry(self, key: str) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._retries.inc()
        self.queue.add_after(key, min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 30), _LONGEST_RETRY_SECONDS))
