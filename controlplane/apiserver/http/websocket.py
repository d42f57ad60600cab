"""The server's end of a WebSocket. Messages go out; those that come in are dropped, unless a subclass takes them.

Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from typing import cast

from controlplane.apiserver.http.request import Headers, Request, head
from machinery.errors import BadRequest

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_HEARTBEAT_SECONDS = 30.0


def offered(request: Request) -> list[str]:
    """The subprotocols the client would speak, what it likes best first."""
    return [p.strip() for h in request.headers.getall("Sec-WebSocket-Protocol", ()) for p in h.split(",")]


def accept(
    request: Request, protocols: Sequence[str], headers: Headers = (), socket: WebSocket | None = None
) -> WebSocket:
    """Change to WebSocket, with the first of the client's subprotocols that is among `protocols`. Raises BadRequest."""
    key = request.headers.get("Sec-WebSocket-Key", "")
    try:
        sound = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        sound = False
    if not sound or request.headers.get("Sec-WebSocket-Version", "13") != "13":
        raise BadRequest("not a WebSocket handshake")
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", proof), *headers]
    chosen = next((protocol for protocol in offered(request) if protocol in protocols), None)
    if chosen is not None:
        lines.append(("Sec-WebSocket-Protocol", chosen))
    socket = socket or WebSocket()
    socket.subprotocol = chosen or ""
    request.take_over(socket, head(101, lines, ""))
    return socket


def _unmasked(data: bytearray, mask: bytes) -> bytes:
    """The payload, in one operation on numbers as long as it is: a loop over bytes would be the slowest part of all."""
    size = len(data)
    pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ pattern).to_bytes(size, "little")


class WebSocket(asyncio.Protocol):
    """An open WebSocket."""

    transport: asyncio.Transport
    message_bytes = 1 << 16
    """The longest message that is taken in."""
    asks_for_life = True
    """Whether a client that gives no sign of life is left."""

    def __init__(self) -> None:
        self.subprotocol = ""
        self.closed = asyncio.Event()
        """Set when the client has left, or has been left."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._buffer = bytearray()
        self._parts: list[bytes] = []  # of a message that came in fragments
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        if self.asks_for_life:
            self._beat()

    def _beat(self) -> None:
        """Ask for a sign of life; give up a client that gave none since the last time."""
        if not self._heard:
            self.transport.abort()
            return
        self._heard = False
        if self._timer is not None:
            self._frame(_PING, b"")
        self._timer = asyncio.get_running_loop().call_later(_HEARTBEAT_SECONDS, self._beat)

    def data_received(self, data: bytes) -> None:
        """Frames of the client."""
        self._heard = True
        self._buffer += data
        while self._take():
            pass

    def _take(self) -> bool:
        """Take one frame, if it is there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        size, at = buffer[1] & 0x7F, 2
        if size == 126 and len(buffer) >= 4:
            size, at = struct.unpack_from("!H", buffer, 2)[0], 4
        elif size >= 126:
            if len(buffer) < 10:
                return False
            size, at = struct.unpack_from("!Q", buffer, 2)[0], 10
        if not buffer[1] & 0x80 or size > self.message_bytes:
            self.close(1009 if buffer[1] & 0x80 else 1002)
            return False
        if len(buffer) < at + 4 + size:
            return False
        first, payload = buffer[0], _unmasked(buffer[at + 4 : at + 4 + size], bytes(buffer[at : at + 4]))
        del buffer[: at + 4 + size]
        self._taken(first & 0x0F, payload, fin=bool(first & 0x80))
        return not self.transport.is_closing()

    def _taken(self, code: int, payload: bytes, *, fin: bool) -> None:
        if code == _PING:
            self._frame(_PONG, payload)
        elif code == _CLOSE:
            self.close()
        elif code <= _BINARY:
            if not fin or self._parts:
                self._parts.append(payload)
                if sum(map(len, self._parts)) > self.message_bytes:
                    self.close(1009)
                    return
                if not fin:
                    return
                payload, self._parts = b"".join(self._parts), []
            self.message_received(payload)

    def message_received(self, message: bytes) -> None:
        """A message of the client's. It is ignored here."""

    def _frame(self, code: int, payload: bytes) -> None:
        if self.transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            top = struct.pack("!BB", 0x80 | code, size)
        elif size < 1 << 16:
            top = struct.pack("!BBH", 0x80 | code, 126, size)
        else:
            top = struct.pack("!BBQ", 0x80 | code, 127, size)
        self.transport.write(top + payload)

    def send(self, message: bytes, *, binary: bool = False) -> int:
        """Send a message without waiting; how much the client has not taken yet, or -1 if it is gone."""
        if self.transport.is_closing():
            return -1
        self._frame(_BINARY if binary else _TEXT, message)
        return self.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent, or has gone."""
        await self._writable.wait()

    def pause_writing(self) -> None:
        """The client is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def end(self, code: int = 1000) -> None:
        """Say that nothing more will come, and leave it to the client to close."""
        self._frame(_CLOSE, struct.pack("!H", code))

    def close(self, code: int = 1000) -> None:
        """Leave."""
        self.end(code)
        self.transport.close()

    def eof_received(self) -> bool:
        """The client sends no more: it has gone, even if the end of TLS is not yet agreed on."""
        self._writable.set()
        self.closed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        if self._timer is not None:
            self._timer.cancel()
        self._writable.set()
        self.closed.set()
