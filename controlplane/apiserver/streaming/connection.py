"""A client's connection of SPDY/3.1 over which it opens streams, and the WebSockets that it is joined to.

Each side is read from only as fast as the other takes what it is sent. Streams have no windows of their own: what
kubelets and runtimes are built with (moby/spdystream) keeps none.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping

from controlplane.apiserver.handlers.hijack import Upgraded
from controlplane.apiserver.http.websocket import WebSocket
from controlplane.apiserver.streaming import frames

_HIGH_BYTES, _LOW_BYTES = 1 << 20, 1 << 18  # what may wait for a slow peer before the other is not read from


class ClientSocket(WebSocket):
    """A WebSocket whose messages, from when `serve` is called, are somebody's business.

    Nothing is asked of a client that is silent: it may be one whose output nobody reads on for a while.
    """

    message_bytes = 32 << 20  # Source: golang.org/x/net/websocket, DefaultMaxPayloadBytes
    asks_for_life = False

    def __init__(self) -> None:
        super().__init__()
        self._receive: Callable[[bytes], None] | None = None
        self._early: list[bytes] = []
        self.source: asyncio.Transport | None = None
        """What is not read from while the client is slow."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, but take nothing in before there is somewhere for it to go."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_HIGH_BYTES, low=_LOW_BYTES)
        self.transport.pause_reading()

    def serve(self, receive: Callable[[bytes], None]) -> None:
        """Have `receive` called with each message, what has come already first."""
        self._receive = receive
        early, self._early = self._early, []
        for message in early:
            receive(message)
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def message_received(self, message: bytes) -> None:
        """One of the client's messages."""
        if self._receive is None:
            self._early.append(message)
        else:
            self._receive(message)

    def pause_writing(self) -> None:
        """The client is slow: what it is sent must wait at its source."""
        super().pause_writing()
        if self.source is not None and not self.source.is_closing():
            self.source.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self.source is not None and not self.source.is_closing():
            self.source.resume_reading()


class Upstream(asyncio.Protocol):
    """The connection to a peer that has changed protocols; its slowness holds up the client."""

    def __init__(self, found: Upgraded, client: ClientSocket, receive: Callable[[bytes], None]) -> None:
        self.transport = found.transport
        self.closed = asyncio.Event()
        self._client = client
        self._receive = receive
        found.transport.set_protocol(self)
        found.transport.set_write_buffer_limits(high=_HIGH_BYTES, low=_LOW_BYTES)
        client.source = found.transport
        if found.early:
            receive(found.early)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        self._receive(data)

    def pause_writing(self) -> None:
        """The peer is slow."""
        if not self._client.transport.is_closing():
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if not self._client.transport.is_closing():
            self._client.transport.resume_reading()

    def eof_received(self) -> bool:
        """The peer says no more."""
        self.closed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.closed.set()

    async def ended(self) -> None:
        """Return when the peer or the client has gone."""
        waits = [asyncio.ensure_future(end.wait()) for end in (self.closed, self._client.closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class SpdyClient:
    """Streams over one connection, all opened by this side."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._headers = frames.Headers()
        self._buffer = bytearray()
        self._streams: dict[int, Callable[[bytes], None]] = {}
        self._ends: dict[int, Callable[[], None]] = {}
        self._next = 1

    def open(self, headers: Mapping[str, str], receive: Callable[[bytes], None], ended: Callable[[], None]) -> int:
        """Open a stream: `receive` gets its data, `ended` is called once when no more comes. Its number is returned."""
        stream, self._next = self._next, self._next + 2
        self._streams[stream], self._ends[stream] = receive, ended
        self._transport.write(self._headers.syn_stream(stream, headers))
        return stream

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send data; `fin`: the last."""
        if not self._transport.is_closing():
            for at in range(0, len(data), frames.LARGEST_BYTES):
                part = data[at : at + frames.LARGEST_BYTES]
                self._transport.write(frames.data(stream, part))
            if fin:
                self._transport.write(frames.data(stream, b"", fin=True))

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer. One that does not speak SPDY is left."""
        self._buffer += data
        try:
            for frame in frames.parse(self._buffer):
                self._take(frame)
        except ValueError:
            self._transport.abort()

    def _take(self, frame: frames.Frame) -> None:
        if frame.kind == frames.DATA:
            receive = self._streams.get(frame.stream)
            if receive is not None and frame.payload:
                receive(frame.payload)
            if frame.flags & frames.FIN:
                self._end(frame.stream)
        elif (frame.kind == frames.SYN_REPLY and frame.flags & frames.FIN) or frame.kind == frames.RST_STREAM:
            self._end(frame.stream)
        elif frame.kind == frames.PING and not frame.stream % 2:
            self._transport.write(frames.control(frames.PING, struct.pack("!I", frame.stream)))
        elif frame.kind == frames.GOAWAY:
            for stream in list(self._ends):
                self._end(stream)

    def _end(self, stream: int) -> None:
        self._streams.pop(stream, None)
        ended = self._ends.pop(stream, None)
        if ended is not None:
            ended()
