"""Where a stream of lines goes: the chunks of an HTTP answer, or the messages of a WebSocket.

Lines are written to the transport without waiting; what a client does not read piles up there, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from aiohttp import WSMsgType, web

from controlplane.apiserver.handlers.exchange import Exchange

_WAITING_BYTES = 16 * 1024 * 1024  # a client that leaves more than this unread is cut off


class Sink(Protocol):
    """One client's stream."""

    async def open(self, exchange: Exchange, content_type: str) -> web.StreamResponse:
        """Send the head of the answer."""
        ...

    def send(self, lines: Sequence[bytes]) -> bool:
        """Write lines; False if the client is gone or does not read."""
        ...

    async def wait(self, ended: asyncio.Event) -> None:
        """Return when `ended` is set or the client has gone."""
        ...

    async def close(self) -> None:
        """End the answer."""
        ...


class ChunkedSink:
    """Lines as the body of an HTTP answer; each batch is a chunk."""

    def __init__(self) -> None:
        self._response = web.StreamResponse()
        self._transport: asyncio.Transport | None = None
        self._chunked = True

    async def open(self, exchange: Exchange, content_type: str) -> web.StreamResponse:
        """See `Sink`."""
        response = self._response
        response.headers["Content-Type"] = content_type
        response.headers["Cache-Control"] = "no-cache, private"
        for name, value in exchange.answer_headers.items():
            response.headers[name] = value
        if exchange.raw.version.minor >= 1:
            response.enable_chunked_encoding()
        else:
            self._chunked = False
        await response.prepare(exchange.raw)
        transport = exchange.raw.transport
        self._transport = transport
        return response

    def send(self, lines: Sequence[bytes]) -> bool:
        """See `Sink`."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if not lines:
            return True
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if transport.get_write_buffer_size() > _WAITING_BYTES:
            transport.abort()
            return False
        return True

    async def wait(self, ended: asyncio.Event) -> None:
        """See `Sink`. The server cancels the handler when the client goes."""
        await ended.wait()

    async def close(self) -> None:
        """See `Sink`."""
        if self._transport is not None and not self._transport.is_closing():
            await self._response.write_eof()


class WebSocketSink:
    """Each line as a message."""

    def __init__(self) -> None:
        self._response = web.WebSocketResponse(protocols=("base64.binary.k8s.io", "binary.k8s.io"), heartbeat=30.0)
        self._pending: asyncio.Queue[str] = asyncio.Queue(maxsize=4096)

    async def open(self, exchange: Exchange, content_type: str) -> web.StreamResponse:
        """See `Sink`."""
        await self._response.prepare(exchange.raw)
        return self._response

    def send(self, lines: Sequence[bytes]) -> bool:
        """See `Sink`."""
        try:
            for line in lines:
                self._pending.put_nowait(line.decode())
        except asyncio.QueueFull:
            return False
        return not self._response.closed

    async def wait(self, ended: asyncio.Event) -> None:
        """See `Sink`."""
        tasks = [
            asyncio.ensure_future(ended.wait()),
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._until_closed()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._response.send_str(await self._pending.get())

    async def _until_closed(self) -> None:
        async for message in self._response:
            if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                return

    async def close(self) -> None:
        """See `Sink`."""
        while not self._pending.empty() and not self._response.closed:
            await self._response.send_str(self._pending.get_nowait())
        await self._response.close()
