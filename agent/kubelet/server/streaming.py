"""exec, attach and port-forward: the client's connection, joined byte for byte to the runtime's streaming server.

The runtime speaks SPDY and WebSocket itself; the kubelet asks it for a place to connect to, passes the request on, and
then copies bytes both ways without looking at them.

Source: CRI streaming (Exec, Attach, PortForward); kubelet's proxyStream.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from machinery.log import get_logger

log = get_logger(__name__)

_HEAD_SECONDS = 30.0
_MAX_HEAD = 64 * 1024
_NOT_PASSED = frozenset(("host", "authorization", "content-length", "transfer-encoding", "x-forwarded-for"))


class _Answered(web.StreamResponse):
    """Tells aiohttp that the answer has been sent past it."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        self._eof_sent = True
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class _Joint(asyncio.Protocol):
    """The client's side of a joined connection."""

    def __init__(self, client: asyncio.Transport, writer: asyncio.StreamWriter) -> None:
        self._client = client
        self._writer = writer
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.active_at = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        self.active_at = asyncio.get_running_loop().time()
        self._writer.write(data)
        runtime: Any = self._writer.transport
        # More than the runtime takes now: stop reading from the client until it has.
        if runtime.get_write_buffer_size() > _MAX_HEAD:
            self._client.pause_reading()
            asyncio.get_running_loop().call_later(0.01, self._resume_reading)

    def _resume_reading(self) -> None:
        runtime: Any = self._writer.transport
        if self._client.is_closing() or runtime.is_closing():
            return
        if runtime.get_write_buffer_size() > _MAX_HEAD:
            asyncio.get_running_loop().call_later(0.01, self._resume_reading)
        else:
            self._client.resume_reading()

    def eof_received(self) -> bool:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()
        return False

    def pause_writing(self) -> None:
        self._resumed.clear()

    def resume_writing(self) -> None:
        self._resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._resumed.set()
        if not self.closed.done():
            self.closed.set_result(None)

    async def copy_from(self, reader: asyncio.StreamReader) -> None:
        """Copy what the runtime says to the client."""
        while data := await reader.read(_MAX_HEAD):
            if self._client.is_closing():
                return
            self.active_at = asyncio.get_running_loop().time()
            self._client.write(data)
            await self._resumed.wait()


async def join(request: web.Request, url: str, idle_seconds: float) -> web.StreamResponse:
    """Pass a request on to the runtime's streaming server and stay out of the way until either side hangs up."""
    target = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
    except OSError as error:
        return web.Response(status=500, text=f"cannot reach the runtime's streaming server: {error.strerror}\n")
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        writer.write(_head(request, path, target.netloc))
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return web.Response(status=502, text="the runtime's streaming server did not answer\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            return await _plain(reader, head, status)
        return await _upgraded(request, reader, writer, head, idle_seconds)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _head(request: web.Request, path: str, host: str) -> bytes:
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in _NOT_PASSED]
    if request.method in ("POST", "PUT"):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _plain(reader: asyncio.StreamReader, head: bytes, status: int) -> web.Response:
    """The runtime refused: pass its answer on."""
    length = next(
        (
            int(line.split(b":", 1)[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:") and line.split(b":", 1)[1].strip().isdigit()
        ),
        None,
    )
    body = b""
    with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(_HEAD_SECONDS):
            body = await reader.readexactly(min(length, _MAX_HEAD)) if length is not None else b""
    return web.Response(status=status, body=body, content_type="text/plain")


async def _upgraded(
    request: web.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, idle_seconds: float
) -> web.StreamResponse:
    client: Any = request.transport
    if client is None or client.is_closing():
        return _Answered()
    server = request.protocol
    joint = _Joint(client, writer)
    # aiohttp keeps what came after the request's head; usually nothing, for clients wait for the 101.
    early = bytes(getattr(server, "_message_tail", b"") or b"")
    client.set_protocol(joint)
    client.resume_reading()
    client.write(head)
    if early:
        writer.write(early)
    copying = asyncio.ensure_future(joint.copy_from(reader))
    loop = asyncio.get_running_loop()
    try:
        while not copying.done() and not joint.closed.done():
            left = joint.active_at + idle_seconds - loop.time() if idle_seconds > 0 else None
            if left is not None and left <= 0:
                break
            await asyncio.wait((copying, joint.closed), timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
        client.close()
        # The server counts its connections: this one is over.
        loop.call_soon(server.connection_lost, None)
    answer = _Answered()
    answer.force_close()
    return answer
