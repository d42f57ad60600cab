"""Calls under way: what arrives for each, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from machinery.rpc.status import Code, RpcError

_PREFIX_BYTES = 5  # a flag (compressed) and the length in 4 bytes


class Call:
    """One stream of a connection: takes messages apart; see the two kinds of call below."""

    __slots__ = ("_lacks", "_parts", "number", "taken", "unsent", "window")

    def __init__(self) -> None:
        self.number = 0
        self.window = 0
        """How many bytes may be sent on it now."""
        self.unsent: deque[tuple[bytes, bool]] = deque()
        """What waits for the window to open, and whether it is the last."""
        self.taken = 0
        """How many bytes came since the server was last told that it may send more."""
        self._parts: list[bytes] = []  # of a message that is not complete, and how many bytes it still lacks
        self._lacks = 0

    def data(self, payload: bytes) -> None:
        """A DATA frame's payload. Raises RpcError."""
        if self._parts:
            self._parts.append(payload)
            self._lacks -= len(payload)
            if self._lacks > 0:
                return
            payload, self._parts = b"".join(self._parts), []
        position, end = 0, len(payload)
        while True:
            if end - position < _PREFIX_BYTES:
                self._lacks = position + _PREFIX_BYTES - end
                break
            length = int.from_bytes(payload[position + 1 : position + _PREFIX_BYTES])
            if payload[position]:
                raise RpcError(Code.INTERNAL, "a compressed message, which was not asked for")
            stop = position + _PREFIX_BYTES + length
            if stop > end:
                self._lacks = stop - end
                break
            self.message(payload[position + _PREFIX_BYTES : stop])
            position = stop
        if position < end:
            self._parts = [payload[position:]]

    def message(self, message: bytes) -> None:
        """A whole message has come."""
        raise NotImplementedError

    def end(self, error: RpcError | None) -> None:
        """The call has ended: well, or not."""
        raise NotImplementedError


class Unary(Call):
    """One request, one response."""

    __slots__ = ("_message", "future")

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        super().__init__()
        self.future = future
        self._message: bytes | None = None

    def message(self, message: bytes) -> None:
        """See `Call`."""
        self._message = message

    def end(self, error: RpcError | None) -> None:
        """See `Call`."""
        if self.future.done():
            return
        if error is None and self._message is None:
            error = RpcError(Code.INTERNAL, "an answer without a message")
        if error is not None:
            self.future.set_exception(error)
        elif self._message is not None:
            self.future.set_result(self._message)


class Streaming(Call):
    """Requests and responses as they come."""

    __slots__ = ("_ended", "_error", "_loop", "_messages", "_reader", "_reset", "_write")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[Call, bytes], None], reset: Callable[[Call], None]
    ) -> None:
        super().__init__()
        self._loop = loop
        self._write, self._reset = write, reset
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._ended = False
        self._error: RpcError | None = None

    def message(self, message: bytes) -> None:
        """See `Call`."""
        self._messages.append(message)
        self._wake()

    def end(self, error: RpcError | None) -> None:
        """See `Call`."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    def write(self, message: bytes) -> None:
        """Send a message. Raises RpcError if the call has ended."""
        if self._ended:
            raise self._error or RpcError(Code.CANCELLED, "the call has ended")
        self._write(self, message)

    async def read(self) -> bytes | None:
        """The next message; None at the end of all. Raises RpcError. One reader at a time."""
        while not self._messages:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            self._reader = self._loop.create_future()
            await self._reader
        return self._messages.popleft()

    def cancel(self) -> None:
        """End the call from here; whoever reads gets CANCELLED."""
        if not self._ended:
            self._reset(self)
            self.end(RpcError(Code.CANCELLED, "cancelled"))
