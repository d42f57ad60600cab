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
from typing import cast
from urllib.parse import urlsplit

import httptools

_MOST_IDLE = 64
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
                answer = await connection.ask(head.encode() + b"\r\n\r\n" + (body or b""))
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
    """One connection; the methods beginning with `on_` are called by the parser."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self.closing = False
        self._new_answer()

    def _new_answer(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._begun = False

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer. Raises WireError."""
        if self._transport is None or self.closing:
            raise WireError("the connection is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Close it."""
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.closing = True  # nobody asked
            return
        self._size += len(data)
        try:
            if self._size > _LONGEST_ANSWER:
                raise WireError("the answer is too long")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, WireError) as exc:
            self._fail(f"not an HTTP answer: {exc}")

    def eof_received(self) -> None:
        if self._begun and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self.on_message_complete()  # its end was to be that of the connection
        self.closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "the server closed the connection")

    def _fail(self, why: str) -> None:
        self.closing = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(WireError(why))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        answer = Answer(status, self._headers, b"".join(self._body))
        if status < 200:  # an interim answer; the real one follows
            self._headers, self._body, self._begun = {}, [], False
            return
        self._new_answer()
        if not keep:
            self.closing = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)
