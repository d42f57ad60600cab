"""Whether etcd answers, for /healthz, /livez and /readyz: asked no more often than upstream asks.

Load balancers and kubelets probe several paths a second; each question would be a read that a majority of etcd's
members has to agree on.

Source: k8s.io/apiserver/pkg/storage/storagebackend/factory/etcd3.go (newETCD3Check).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from controlplane.apiserver.handlers.health import NotReady
from machinery.clock import Clock
from machinery.errors import NavarchError

Ask = Callable[[], Awaitable[None]]
"""Reads something of etcd. Raises NavarchError."""


class EtcdHealth:
    """One such check: within half of its time limit (seconds) after a question its answer is told again."""

    def __init__(self, ask: Ask, limit_seconds: float, clock: Clock) -> None:
        self._ask, self._limit, self._clock = ask, limit_seconds, clock
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._error: Exception | None = None

    async def check(self) -> None:
        """Raise what keeps etcd from answering."""
        async with self._asking:
            now = self._clock.monotonic()
            if now - self._asked_at >= self._limit / 2:
                self._asked_at = now
                self._error = await self._answer()
        if self._error is not None:
            raise self._error

    async def _answer(self) -> Exception | None:
        try:
            async with asyncio.timeout(self._limit):
                await self._ask()
        except TimeoutError:
            return NotReady("error getting data from etcd: context deadline exceeded")
        except NavarchError as error:
            return error
        return None
