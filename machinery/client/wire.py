"""Requests over HTTP/1.1 with as little work as they need: a quarter of what a general client takes.

For components that make many small requests. It knows what API servers send (lengths, chunks, or an end of the
connection), nothing of redirects, cookies, compression or proxies.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_MOST_IDLE = 64
_LONGEST_HEAD = 64 * 1024
_LONGEST_ANSWER = 512 * 1024 * 1024


class WireError(Exception):
    """The connection broke, or what came is not HTTP; whether the request took effect is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Connections to one server. A request takes an idle one, or opens another."""

    def __init__(self, server: str, tls: ssl.SSLContext | None) -> None:
        """`server`: https://host:port."""
        parts = urlsplit(server)
        self._host, self._tls = parts.hostname or "", tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._idle: list[_Connection] = []

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout_seconds: float
    ) -> Answer:
        """One request. Raises WireError, OSError, TimeoutError."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        head = "\r\n".join(lines)
        if "\n" in head.replace("\r\n", "") or not path.isascii() or " " in path:
            raise WireError("a request may not have line breaks in its headers, nor odd characters in its path")
        connection = await self._connection(timeout_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await connection.ask(head.encode() + b"\r\n\r\n" + (body or b""), method)
        except BaseException:
            connection.close()  # an answer that comes later must not be taken for another request's
            raise
        if not connection.closing and len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connection(self, timeout_seconds: float) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_seconds):
            _, made = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return made

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[Answer] | None = None
        self._bodiless = False
        self.closing = False

    async def ask(self, request: bytes, method: str) -> Answer:
        if self._transport is None or self.closing:
            raise WireError("the connection is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._bodiless = method == "HEAD"
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance(ended=False)

    def eof_received(self) -> None:
        self.closing = True
        self._advance(ended=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(WireError(str(exc) if exc else "the server closed the connection"))

    def _advance(self, *, ended: bool) -> None:
        if self._waiter is None or self._waiter.done():
            self.closing = self.closing or bool(self._buffer)  # nobody asked
            return
        try:
            found = parse(self._buffer, ended=ended, bodiless=self._bodiless)
        except (ValueError, IndexError) as exc:
            self._waiter.set_exception(WireError(f"not an HTTP answer: {exc}"))
            self.closing = True
            return
        if found is None:
            return
        answer, end = found
        del self._buffer[:end]
        if self._buffer or answer.headers.get("connection", "").lower() == "close":
            self.closing = True
        self._waiter.set_result(answer)


def parse(buffer: bytearray, *, ended: bool, bodiless: bool = False) -> tuple[Answer, int] | None:
    """(the answer, where it ends), or None if there is more to come. Raises ValueError for what is none."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > _LONGEST_HEAD:
            raise ValueError("the headers are too long")
        return None
    lines = buffer[:end].decode("latin-1").split("\r\n")
    version, code = lines[0].split(" ", 2)[:2]
    if not version.startswith("HTTP/1."):
        raise ValueError(lines[0][:80])
    status = int(code)
    if status < 200:  # an interim answer; the real one follows
        rest = buffer[end + 4 :]
        found = parse(rest, ended=ended, bodiless=bodiless)
        return None if found is None else (found[0], found[1] + end + 4)
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = _body(buffer, end + 4, status, headers, ended=ended, bodiless=bodiless)
    return None if body is None else (Answer(status, headers, body[0]), body[1])


def _body(
    buffer: bytearray, start: int, status: int, headers: Mapping[str, str], *, ended: bool, bodiless: bool
) -> tuple[bytes, int] | None:
    if bodiless or status in (204, 304):
        return b"", start
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunks(buffer, start)
    length = headers.get("content-length")
    if length is None:
        return (bytes(buffer[start:]), len(buffer)) if ended else None
    stop = start + int(length)
    if int(length) > _LONGEST_ANSWER or int(length) < 0:
        raise ValueError(f"an answer of {length} bytes")
    return None if len(buffer) < stop else (bytes(buffer[start:stop]), stop)


def _chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    at = start
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(buffer[at:line].split(b";")[0], 16)
        if size < 0 or line + size - start > _LONGEST_ANSWER:
            raise ValueError(f"a chunk of {size} bytes")
        if not size:
            end = buffer.find(b"\r\n\r\n", line) + 4 if buffer[line : line + 4] != b"\r\n\r\n" else line + 4
            return None if end < line + 4 else (b"".join(parts), end)
        if len(buffer) < line + 2 + size + 2:
            return None
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
        at = line + 2 + size + 2
