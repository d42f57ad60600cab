"""A limit on how many things are done at a time, where those furthest along go first.

Starting a container keeps a core busy. Started all at once, thirty pods are all ready at the end; started a few at a
time, and each to its end, half of them are ready after half of the time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """So many at a time; a lower `rank` goes first, then who came first."""

    def __init__(self, count: int, longest_seconds: float = 10.0) -> None:
        """What takes longer than `longest_seconds` (a stuck network plugin) stops holding others up."""
        self._free = count
        self._longest_seconds = longest_seconds
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """Hold a slot inside the block."""
        await self._take(rank)
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._give_back()

        timer = asyncio.get_running_loop().call_later(self._longest_seconds, release)
        try:
            yield
        finally:
            timer.cancel()
            release()

    async def _take(self, rank: int) -> None:
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was our turn already
            raise

    def _give_back(self) -> None:
        self._free += 1
        while self._free > 0 and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
