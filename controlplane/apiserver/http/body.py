"""The body of a request, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from machinery.errors import BadRequest, TooLarge

_HIGH_BYTES = 1 << 20  # more than this unread stops the client from sending


class Body:
    """Bytes that are there, and those still to come."""

    __slots__ = ("_begin", "_chunks", "_discarded", "_failed", "_flow", "_size", "_waiter", "complete")

    def __init__(self, flow: Callable[[bool], None], begin: Callable[[], None] | None = None) -> None:
        """`flow` stops (False) and starts the sender; `begin` is called before the first wait for data."""
        self.complete = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._failed = False
        self._discarded = False
        self._waiter: asyncio.Future[None] | None = None
        self._flow = flow
        self._begin = begin

    def discard(self) -> None:
        """Nobody will read it."""
        self._discarded = True
        self._chunks = []

    def feed(self, data: bytes) -> None:
        """More has come."""
        if self._discarded:
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _HIGH_BYTES and self._waiter is None:
            self._flow(False)
        self._wake()

    def finish(self) -> None:
        """All has come."""
        self.complete = True
        self._wake()

    def fail(self) -> None:
        """The rest will not come."""
        self._failed = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _more(self) -> None:
        """Wait until something has happened. Raises BadRequest if nothing more will."""
        if self._failed:
            raise BadRequest("unexpected EOF")
        if self._begin is not None:
            self._begin()
            self._begin = None
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            self._flow(True)  # what was held back may come at once, before this returns
            await waiter
        finally:
            self._waiter = None

    async def read(self, limit: int) -> bytes:
        """All of it. Raises TooLarge; BadRequest if the client has gone before the end."""
        while not self.complete:
            if self._size > limit:
                break
            await self._more()
        if self._size > limit:
            raise TooLarge(f"Request entity too large: limit is {limit}")
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def parts(self) -> AsyncIterator[bytes]:
        """Pieces as they come, each told once."""
        while True:
            chunks, self._chunks, self._size = self._chunks, [], 0
            for chunk in chunks:
                yield chunk
            if self._chunks:
                continue
            if self.complete:
                return
            await self._more()


class WholeBody:
    """A body that came with its head (mostly: none)."""

    __slots__ = ("_data",)
    complete = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, limit: int) -> bytes:
        """See `Body`."""
        if len(self._data) > limit:
            raise TooLarge(f"Request entity too large: limit is {limit}")
        return self._data

    async def parts(self) -> AsyncIterator[bytes]:
        """See `Body`."""
        if self._data:
            yield self._data


NO_BODY = WholeBody(b"")
