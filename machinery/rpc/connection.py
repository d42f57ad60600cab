"""One HTTP/2 connection to a server, with all its calls.

What is sent during one turn of the event loop goes in one write.  Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from machinery.rpc import frames
from machinery.rpc.calls import Call
from machinery.rpc.frames import HeaderBlocks, PeerSettings
from machinery.rpc.status import Code, RpcError, ended

_PING = b"navarch!"
_GRANT_BYTES = 1 << 30  # what is taken in before the server is told that it may send more
_MOST_HEADER_BYTES = 1 << 20


class Connection(asyncio.Protocol):
    """The client's end. `lost` is called once when it can't be used any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, lost: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._name = name
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._peer = PeerSettings()
        self._blocks = HeaderBlocks()
        self._calls: dict[int, Call] = {}
        self._waiting: deque[tuple[Call, bytes, bytes, bool]] = deque()  # for a free stream
        self._blocked: dict[int, Call] = {}  # for a window to open
        self._next = 1
        self._window = frames.FIRST_WINDOW
        self._received = 0
        self._unread = b""
        self._headers: tuple[int, int, bytes] | None = None  # stream, flags and what has come of a header block
        self._out: list[bytes] = []
        self.usable = True
        """Whether new calls may begin."""
        self.failure = ""
        """Why it was lost."""
        self.heard = False
        """Whether anything came since this was last set to False."""
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when the server has spoken HTTP/2."""

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(frames.preface())

    def connection_lost(self, exc: Exception | None) -> None:
        """Every call has failed."""
        self._fail(RpcError(Code.UNAVAILABLE, f"connection to {self._name} lost" + (f": {exc}" if exc else "")))

    def data_received(self, data: bytes) -> None:
        """Frames, or parts of them."""
        self.heard = True
        if self._unread:
            data = self._unread + data
        position, end = 0, len(data)
        try:
            while end - position >= frames.HEAD_BYTES:
                length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
                if length > frames.MOST_FRAME_BYTES:
                    raise frames.broken("a frame that is too large")
                start = position + frames.HEAD_BYTES
                if start + length > end:
                    break
                stream = int.from_bytes(data[position + 5 : start]) & frames.LARGEST_WINDOW
                self._frame(data[position + 3], data[position + 4], stream, data[start : start + length])
                position = start + length
        except RpcError as exc:
            self._fail(exc)
            self.abort()
            return
        self._unread = data[position:] if position < end else b""

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != frames.CONTINUATION:
            raise frames.broken("a header block is interrupted")
        if kind == frames.DATA:
            self._data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._header_part(stream, flags, frames.without_padding(flags, payload))
        elif kind == frames.WINDOW_UPDATE:
            self._opened(stream, frames.number(payload))
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._send(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.RST_STREAM:
            self._was_reset(stream, frames.number(payload))
        elif kind == frames.CONTINUATION:
            if self._headers is None or self._headers[0] != stream:
                raise frames.broken("a continuation of nothing")
            _, first, block = self._headers
            self._header_part(stream, first | flags, block + payload)
        elif kind == frames.GOAWAY:
            self._goes_away(payload)
        elif kind == frames.PUSH_PROMISE:
            raise frames.broken("a push, which was not asked for")

    # --- what the server says

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received > _GRANT_BYTES:
            self._send(frames.window_update(0, self._received))
            self._received = 0
        call = self._calls.get(stream)
        if call is None:
            return
        if flags & frames.PADDED:
            payload = frames.without_padding(flags & frames.PADDED, payload)
        try:
            call.data(payload)
        except RpcError as exc:
            self._send(frames.reset(stream, frames.CANCEL))
            self._end(stream, exc)
            return
        call.taken += len(payload)
        if call.taken > _GRANT_BYTES:
            self._send(frames.window_update(stream, call.taken))
            call.taken = 0
        if flags & frames.END_STREAM:
            self._end(stream, RpcError(Code.UNKNOWN, "the answer has no trailers"))

    def _header_part(self, stream: int, flags: int, block: bytes) -> None:
        if not flags & frames.END_HEADERS:
            if len(block) > _MOST_HEADER_BYTES:
                raise frames.broken("headers that are too large")
            self._headers = stream, flags, block
            return
        self._headers = None
        headers = self._blocks.read(block)
        if flags & frames.END_STREAM:
            self._end(stream, ended(headers))
        elif headers.get(":status", "200") != "200":
            self._send(frames.reset(stream, frames.CANCEL))
            self._end(stream, ended(headers))

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        before = self._peer.first_window
        self._peer.take(payload)
        self._send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        grown = self._peer.first_window - before
        if grown:
            for call in self._calls.values():
                call.window += grown
        if not self.ready.done():
            self.ready.set_result(None)
        self._more()

    def _opened(self, stream: int, increment: int) -> None:
        if not stream:
            self._window += increment
        else:
            call = self._calls.get(stream)
            if call is None:
                return
            call.window += increment
        if self._blocked:
            self._more()

    def _was_reset(self, stream: int, error: int) -> None:
        refused = error == frames.REFUSED_STREAM
        code = Code.UNAVAILABLE if refused else Code.CANCELLED if error == frames.CANCEL else Code.INTERNAL
        self._end(stream, RpcError(code, f"the stream was reset: HTTP/2 error {error}", sent=not refused))

    def _goes_away(self, payload: bytes) -> None:
        last = frames.number(payload)
        text = payload[8:].decode("utf-8", "replace")
        why = f"{self._name} closes the connection" + (f": {text}" if text else "")
        self.retire()
        for stream in [stream for stream in self._calls if stream > last]:
            self._end(stream, RpcError(Code.UNAVAILABLE, why, sent=False))
        while self._waiting:
            self._waiting.popleft()[0].end(RpcError(Code.UNAVAILABLE, why, sent=False))

    # --- calls

    def begin(self, call: Call, block: bytes, message: bytes, *, last: bool) -> None:
        """Begin a call with its header block and first message (framed by gRPC; may be empty)."""
        if len(self._calls) >= self._peer.most_streams:
            self._waiting.append((call, block, message, last))
            return
        call.number = number = self._next
        self._next += 2
        if self._next > frames.LARGEST_WINDOW - 2:
            self.retire()
        call.window = self._peer.first_window
        self._calls[number] = call
        if len(block) > self._peer.most_frame_bytes:
            raise frames.broken("headers that are too large")
        self._send(frames.head(frames.HEADERS, frames.END_HEADERS, number, len(block)) + block)
        if message:
            self.write(call, message, last=last)

    def write(self, call: Call, message: bytes, *, last: bool) -> None:
        """Send a message (framed by gRPC) as far as the windows are open, the rest later."""
        size = len(message)
        if call.number and not call.unsent and size <= min(call.window, self._window, self._peer.most_frame_bytes):
            call.window -= size
            self._window -= size
            flags = frames.END_STREAM if last else 0
            self._send(frames.head(frames.DATA, flags, call.number, size) + message)
            return
        call.unsent.append((message, last))
        if call.number:
            self._blocked[call.number] = call
            self._more()

    def _more(self) -> None:
        """Send what has waited for windows or streams."""
        for number, call in list(self._blocked.items()):
            while call.unsent:
                message, last = call.unsent[0]
                size = min(len(message), call.window, self._window, self._peer.most_frame_bytes)
                if size <= 0:
                    break
                call.window -= size
                self._window -= size
                whole = size == len(message)
                flags = frames.END_STREAM if last and whole else 0
                self._send(frames.head(frames.DATA, flags, number, size) + message[:size])
                if whole:
                    call.unsent.popleft()
                else:
                    call.unsent[0] = (message[size:], last)
            if not call.unsent:
                del self._blocked[number]
        while self._waiting and len(self._calls) < self._peer.most_streams:
            call, block, message, last = self._waiting.popleft()
            self.begin(call, block, message, last=last)

    def cancel(self, call: Call) -> None:
        """Nobody waits for this call any more."""
        if call.number:
            if self._forget(call.number) is not None:
                self._send(frames.reset(call.number, frames.CANCEL))
        else:
            self._waiting = deque(each for each in self._waiting if each[0] is not call)

    def _forget(self, stream: int) -> Call | None:
        call = self._calls.pop(stream, None)
        self._blocked.pop(stream, None)
        if self._waiting:
            self._loop.call_soon(self._more)
        if not self.usable and not self._calls and self._transport is not None:
            self._loop.call_soon(self._transport.close)
        return call

    def _end(self, stream: int, error: RpcError | None) -> None:
        call = self._forget(stream)
        if call is not None:
            call.end(error)

    # --- the connection as a whole

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._send(frames.frame(frames.PING, 0, 0, _PING))

    def retire(self) -> None:
        """Begin no more calls; close when those under way have ended."""
        if self.usable:
            self.usable = False
            self._lost(self)
        if not self._calls and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, why: str) -> None:
        """Give the connection up: it answers no more."""
        self._fail(RpcError(Code.UNAVAILABLE, why))
        self.abort()

    def _fail(self, error: RpcError) -> None:
        self.failure = self.failure or error.details
        calls = list(self._calls.values())
        waiting = [call for call, *_ in self._waiting]
        self._calls.clear()
        self._waiting.clear()
        self._blocked.clear()
        if not self.ready.done():
            self.ready.set_exception(RpcError(Code.UNAVAILABLE, error.details, sent=False))
        for call in calls:
            call.end(error)
        for call in waiting:
            call.end(RpcError(error.code, error.details, sent=False))
        if self.usable:
            self.usable = False
            self._lost(self)

    def _send(self, data: bytes) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(out[0] if len(out) == 1 else b"".join(out))
