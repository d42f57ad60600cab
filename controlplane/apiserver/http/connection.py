"""One client's connection: requests one after another, each answered before the next is looked at.

A request that only reads ends with its client; one that writes goes on to its end.

Source: RFC 9112; net/http (Server) for limits and for what is told to clients that do not speak HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httptools

from controlplane.apiserver.http.body import NO_BODY, Body, WholeBody
from controlplane.apiserver.http.head import BadHead, Head, Heads
from controlplane.apiserver.http.pieces import Joined
from controlplane.apiserver.http.request import Answered, Headers, Request, head
from controlplane.apiserver.tls import peer_certificates

if TYPE_CHECKING:
    from controlplane.apiserver.http.server import HttpServer

_HEAD_BYTES = 1 << 20  # Source: http.DefaultMaxHeaderBytes
_EARLY_BYTES = 1 << 16  # what a client may send before its request is answered
_ONE_WRITE_BYTES = 1 << 16  # shorter answers are copied behind their heads
_LINGER_SECONDS = 5.0  # how long the rest of a body that nobody wants is taken in, so that the answer is read
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Response:
    """A complete answer."""

    status: int
    headers: Headers
    body: bytes | Joined
    close: bool = False
    """The connection is not to be used again."""


Handler = Callable[[Request], Awaitable[Response | Answered]]


class Connection(asyncio.Protocol):
    """The server's end of a connection."""

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self.remote = ""
        self.peer_certificates: tuple[bytes, ...] = ()
        self.since = 0.0
        """When it began to be idle (loop's clock); 0: a request is being answered."""
        self.task: asyncio.Task[None] | None = None
        self._heads = Heads()
        self._buffer = b""
        self._body: Body | None = None  # the body that is still coming
        self._left = 0  # bytes of it to come; -1: in chunks
        self._chunks: _Chunks | None = None
        self._closing = False
        self._ends_with_client = True
        self._held = False  # the client is stopped from sending
        self.stalled = 0.0
        """Since when much is waiting for the client to read it (loop's clock); 0: it is not."""
        self._lingering = False  # the answer is complete, and the request is not
        self._drained: asyncio.Future[None] | None = None
        self._request: Request | None = None
        self.handed_over = False

    @property
    def waits(self) -> bool:
        """Whether a part of a head has come."""
        return bool(self._buffer)

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) else ""
        self.peer_certificates = peer_certificates(transport.get_extra_info("ssl_object"))
        self.since = self._server.loop.time()
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._body is not None:
            self._body_data(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self.task is None:
            self._next()
        elif len(self._buffer) > _EARLY_BYTES:
            self._flow(False)

    def eof_received(self) -> bool:
        """The client will not send more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._closing = True
        self._server.connections.discard(self)
        if self._body is not None:
            self._body.fail()
            self._body = None
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_exception(ConnectionResetError("the client has gone"))
        if self.task is not None and self._ends_with_client:
            self.task.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.stalled = self._server.loop.time()

    def resume_writing(self) -> None:
        """The client has read."""
        self.stalled = 0.0
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _flow(self, on: bool) -> None:
        """Let the client go on sending, or stop it."""
        if self._held is on and not self.transport.is_closing():
            self._held = not on
            (self.transport.resume_reading if on else self.transport.pause_reading)()

    # --- reading requests

    def _next(self) -> None:
        """Begin with the next request, if its head is there."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            if len(buffer) > _HEAD_BYTES:
                self._refuse(431, "")
            return
        end += 4
        try:
            found = self._heads.read(buffer if end == len(buffer) else buffer[:end])
        except BadHead as exc:
            self._refuse(400, str(exc))
            return
        rest = buffer[end:]
        length = found.length
        if not length:
            body: Body | WholeBody = NO_BODY
            self._buffer = rest
        elif 0 < length <= len(rest):
            body = WholeBody(rest if length == len(rest) else rest[:length])
            self._buffer = rest[length:]
        else:
            body = self._begin_body(found, rest)
        self.since = 0.0
        self._ends_with_client = found.method in _READING or found.upgrade
        self._request = Request(self, found, body)
        self.task = self._server.loop.create_task(self._serve(self._request))

    def _begin_body(self, found: Head, rest: bytes) -> Body:
        body = self._body = Body(self._flow, self._continue if found.expects_continue else None)
        self._buffer = b""
        self._left = found.length
        self._chunks = _Chunks(body) if found.length < 0 else None
        if rest:
            self._body_data(rest)
        return body

    def _continue(self) -> None:
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body_data(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if self._chunks is not None:
            try:
                done = self._chunks.feed(data)
            except BadHead:
                body.fail()
                self._closing = True
                return
            if done:
                self._closing = self._closing or self._chunks.more
                self._body_complete()
            return
        if len(data) < self._left:
            self._left -= len(data)
            body.feed(data)
            return
        body.feed(data[: self._left])
        self._buffer = data[self._left :]
        self._body_complete()
        body.finish()

    def _body_complete(self) -> None:
        self._body = self._chunks = None
        if self._lingering:
            self.transport.close()

    def _refuse(self, status: int, why: str) -> None:
        """Answer what is no request, and close."""
        told = "400 Bad Request" if status == 400 else "431 Request Header Fields Too Large"
        text = f"{told}: {why}" if why.startswith(("missing", "too many")) else told
        last = "Connection: close\r\n"
        self.transport.write(head(status, [("Content-Type", "text/plain; charset=utf-8")], last) + text.encode())
        self._closing = True
        self.transport.close()

    # --- answering

    async def _serve(self, request: Request) -> None:
        try:
            response = await self._server.handler(request)
            if isinstance(response, Response):
                body = self._send(request.head, response)
                if body is not None:
                    await self._send_pieces(body)
            elif request.started is not None and not request.started.ended:
                request.started.abort()
        except asyncio.CancelledError:
            if request.started is not None:  # the server stops: what has been streamed is complete
                request.started.end()
            self._closing = True
        except ConnectionError:
            self._closing = True
        finally:
            self.task = self._request = None
            if not self.handed_over:
                self._after()

    def _send(self, found: Head, response: Response) -> Joined | None:
        """Send an answer; what is returned is the body that remains to be sent."""
        transport = self.transport
        if transport.is_closing():
            return None
        status, body = response.status, response.body
        last = "" if status in (204, 304) else f"Content-Length: {len(body)}\r\n"
        if response.close or not self.keeps_alive(found):
            self._closing = True
            last += "Connection: close\r\n"
        top = head(status, response.headers, last)
        if not body or found.method == "HEAD" or status in (204, 304):
            transport.write(top)
        elif isinstance(body, Joined):
            transport.write(top)
            return body
        elif len(body) < _ONE_WRITE_BYTES:
            transport.write(top + body)
        else:
            transport.write(top)
            transport.write(body)
        return None

    async def _send_pieces(self, body: Joined) -> None:
        """Send piece by piece, no faster than the client takes them. Raises ConnectionResetError."""
        for piece in body:
            self.transport.write(piece)
            if self.stalled:
                await self.writable()

    def keeps_alive(self, found: Head) -> bool:
        """Whether the connection goes on after the answer to this request."""
        return found.keep_alive and not self._closing and self._body is None and not self._server.stopping

    def close_after(self) -> None:
        """Close when the answer under way is complete."""
        self._closing = True

    def _after(self) -> None:
        """An answer is complete: close, or go on with the next request."""
        transport = self.transport
        if transport.is_closing():
            return
        if self._body is not None:
            # Closing now would reset the connection before the client has read why.
            self._body.discard()
            self._lingering = True
            self._flow(True)
            self._server.loop.call_later(_LINGER_SECONDS, transport.abort)
            return
        if self._closing or self._server.stopping:
            transport.close()
            return
        self.since = self._server.loop.time()
        self._flow(True)  # the body may have been too much at once, or the next request early
        if self._buffer:
            self._next()

    async def writable(self) -> None:
        """Wait until the client has read most of what was written. Raises ConnectionResetError."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if not self.stalled:
            return
        if self._drained is None:
            self._drained = self._server.loop.create_future()
        await self._drained

    def hand_over(self, protocol: asyncio.Protocol, answer_head: bytes) -> asyncio.Transport:
        """Let another protocol have the transport from now on."""
        self.transport.write(answer_head)
        self.handed_over = True
        self._flow(True)
        early, self._buffer = self._buffer, b""
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if early:
            protocol.data_received(early)
        return self.transport

    def release(self) -> None:
        """The protocol that took over has ended."""
        self._server.connections.discard(self)

    def stop(self) -> None:
        """The server stops: streams end now, other requests are to be finished."""
        if self.handed_over or self.task is None:
            self.transport.close()
        elif self._request is not None and self._request.started is not None:
            self.task.cancel()


class _Chunks:
    """Takes a chunked body apart; llhttp checks it."""

    def __init__(self, body: Body) -> None:
        self._target = body
        self._done = False
        self.more = False
        """Something came after the body: its first bytes are lost, so the connection can't go on."""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if not self._done:
            self._target.feed(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._done = True
        self._target.finish()

    def on_message_begin(self) -> None:
        """Called by the parser, for the head above as well."""
        self.more = self._done

    def feed(self, data: bytes) -> bool:
        """Take more in; whether the body is complete. Raises BadHead."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if self._done:
                self.more = True
                return True
            raise BadHead(str(exc)) from exc
        return self._done
