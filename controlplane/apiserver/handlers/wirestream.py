"""Where a stream of lines goes: the chunks of an HTTP answer, or the messages of a WebSocket.

Lines are written to the transport without waiting; what a client does not read piles up there, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.http import websocket
from controlplane.apiserver.http.request import Answered, Stream
from controlplane.apiserver.http.websocket import WebSocket

_WAITING_BYTES = 16 * 1024 * 1024  # a client that leaves more than this unread is cut off


class Sink(Protocol):
    """One client's stream."""

    def open(self, exchange: Exchange, content_type: str) -> Answered:
        """Send the head of the answer."""
        ...

    def send(self, lines: Sequence[bytes]) -> bool:
        """Write lines; False if the client is gone or does not read."""
        ...

    async def wait(self, ended: asyncio.Event) -> None:
        """Return when `ended` is set or the client has gone."""
        ...

    def close(self) -> None:
        """End the answer."""
        ...


class ChunkedSink:
    """Lines as the body of an HTTP answer; each batch is a chunk."""

    _stream: Stream

    def open(self, exchange: Exchange, content_type: str) -> Answered:
        """See `Sink`."""
        headers = {
            **exchange.answer_headers,
            "Cache-Control": "no-cache, private",
            "Content-Type": content_type,
        }
        self._stream = exchange.raw.start(200, headers.items())
        return self._stream

    def send(self, lines: Sequence[bytes]) -> bool:
        """See `Sink`."""
        waiting = self._stream.write(_together(lines))
        if waiting > _WAITING_BYTES:
            self._stream.abort()
            return False
        return waiting >= 0

    async def wait(self, ended: asyncio.Event) -> None:
        """See `Sink`. The server cancels the handler when the client goes."""
        await ended.wait()

    def close(self) -> None:
        """See `Sink`."""
        self._stream.end()


_last: tuple[Sequence[bytes], bytes] = ((), b"")


def _together(lines: Sequence[bytes]) -> bytes:
    """The lines as one: made once for what is sent to many, one after another."""
    global _last
    if len(lines) == 1:
        return lines[0]
    if _last[0] != lines:
        _last = lines, b"".join(lines)
    return _last[1]


SUBPROTOCOLS = ("base64.binary.k8s.io", "binary.k8s.io")
"""Of WebSockets that carry one stream. Source: k8s.io/apiserver/pkg/util/wsstream (stream.go)."""


class WebSocketSink:
    """Each line as a message."""

    _socket: WebSocket

    def __init__(self) -> None:
        self._release = _nothing

    def open(self, exchange: Exchange, content_type: str) -> Answered:
        """See `Sink`. Raises BadRequest."""
        self._socket = websocket.accept(exchange.raw, SUBPROTOCOLS, exchange.answer_headers.items())
        self._release = exchange.raw.release
        return Answered(101)

    def send(self, lines: Sequence[bytes]) -> bool:
        """See `Sink`."""
        waiting = 0
        for line in lines:
            waiting = self._socket.send(line)
            if waiting > _WAITING_BYTES:
                self._socket.transport.abort()
                return False
        return waiting >= 0

    async def wait(self, ended: asyncio.Event) -> None:
        """See `Sink`."""
        tasks = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(self._socket.closed.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._release()

    def close(self) -> None:
        """See `Sink`."""
        self._socket.close()
        self._release()


def _nothing() -> None:
    """Nothing has been taken over yet."""
