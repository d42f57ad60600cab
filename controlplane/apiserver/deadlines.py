"""How long requests may take: all under way are looked at now and then, which is cheaper than a timer for each.

Source: k8s.io/apiserver/pkg/server/filters/timeout.go.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

_EVERY_SECONDS = 0.1  # a request ends at most so much too late


class Expiring(Protocol):
    """What has a deadline."""

    expired: bool
    """Set when it has passed."""


class Deadlines:
    """Cancels the tasks of those whose time is over."""

    def __init__(self) -> None:
        self._running: dict[Expiring, tuple[float, asyncio.Task[Any]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self, who: Expiring, seconds: float) -> None:
        """Cancel the present task after a time, unless `end` is called before."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._running[who] = loop.time() + seconds, task
        if self._sweep is None:
            self._sweep = loop.call_later(_EVERY_SECONDS, self._look)

    def end(self, who: Expiring) -> None:
        """It is done."""
        self._running.pop(who, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for who in [who for who, (deadline, _) in self._running.items() if deadline <= now]:
            who.expired = True
            self._running.pop(who)[1].cancel()
        self._sweep = loop.call_later(_EVERY_SECONDS, self._look) if self._running else None
