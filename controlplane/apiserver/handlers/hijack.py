"""Connections that stop speaking HTTP: the bytes of two peers, passed on as they are.

exec, attach and port-forward upgrade to SPDY or WebSocket; what is said then is between client and kubelet.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from controlplane.apiserver.dialing import DialError, why_not_dialled
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.http.request import Answered
from machinery.errors import ServiceUnavailable

_HEAD_BYTES = 64 * 1024
_HIGH_BYTES, _LOW_BYTES = 1 << 20, 1 << 18  # what may wait for a slow peer before the other is not read from
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Where to connect to; `tls` None is plain."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer did not change protocols but answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Pipe(asyncio.Protocol):
    """One peer: what comes from it is written to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Pipe | None = None
        self.closed = asyncio.Event()
        self._early = bytearray()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_BYTES, low=_LOW_BYTES)

    def join(self, other: _Pipe) -> None:
        """Pass on to `other` from now on, what has come already first."""
        self.other = other
        if self._early and other.transport is not None:
            other.transport.write(bytes(self._early))
            self._early.clear()
        if self._ended and other.transport is not None:
            other.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early += data
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool | None:
        self._ended = True
        if self.other is not None and self.other.transport is not None:
            if self.other.transport.can_write_eof():
                self.other.transport.write_eof()
                return True
            self.other.transport.close()
        return False

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        self.closed.set()


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A peer that has changed protocols: what it answered, and what it has said since."""

    transport: asyncio.Transport
    head: bytes
    headers: list[tuple[str, str]]
    early: bytes


async def upgrade(peer: Peer, request_head: bytes) -> Upgraded | Refused:
    """Send an upgrade request to the peer. Of what it agrees to, the caller gives the transport a protocol, at once.

    Raises:
        DialError: it can't be reached, or does not answer.
    """
    loop = asyncio.get_running_loop()
    upstream = _Head()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await loop.create_connection(
                lambda: upstream,
                peer.host,
                peer.port,
                ssl=peer.tls,
                server_hostname=(peer.server_name or peer.host) if peer.tls is not None else None,
            )
    except (OSError, TimeoutError, ssl.SSLError) as exc:
        raise DialError("error dialing backend", why_not_dialled(exc, peer.host, peer.port)) from exc
    assert upstream.transport is not None
    try:
        upstream.transport.write(request_head)
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = await upstream.head()
    except (TimeoutError, ConnectionError) as exc:
        upstream.transport.abort()
        raise DialError("error sending request", str(exc) or "i/o timeout") from exc
    status, headers = _parse(head)
    if status == 101:
        return Upgraded(upstream.transport, head, headers, upstream.rest())
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return Refused(status, headers, await upstream.body(headers))
    except (TimeoutError, ConnectionError):
        return Refused(status, headers, b"")
    finally:
        upstream.transport.abort()


async def splice(exchange: Exchange, peer: Peer, request_head: bytes) -> Answered | Refused:
    """Send an upgrade request to the peer; if it agrees, join the two connections until either ends.

    Raises:
        DialError: the peer can't be reached, or does not answer.
    """
    found = await upgrade(peer, request_head)
    return found if isinstance(found, Refused) else await _join(exchange, found)


async def _join(exchange: Exchange, upstream: Upgraded) -> Answered:
    client, back = _Pipe(), _Pipe()
    upstream.transport.set_protocol(back)
    back.connection_made(upstream.transport)
    if upstream.early:
        back.data_received(upstream.early)
    transport = exchange.raw.take_over(client, upstream.head)
    back.join(client)
    client.join(back)
    try:
        await asyncio.wait(
            [asyncio.ensure_future(client.closed.wait()), asyncio.ensure_future(back.closed.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await _linger(client, back)
    finally:
        transport.close()
        upstream.transport.close()
        exchange.raw.release()
    return Answered(101)


async def _linger(*pipes: _Pipe) -> None:
    """Let what is still in buffers go out."""
    try:
        async with asyncio.timeout(5):
            for pipe in pipes:
                await pipe.closed.wait()
    except TimeoutError:
        return


class _Head(asyncio.Protocol):
    """Collects the head of an answer, and its body if it is a plain one."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._news = asyncio.Event()
        self._end = -1
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._news.set()

    def eof_received(self) -> None:
        self._lost = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._news.set()

    async def _more(self) -> None:
        if self._lost:
            raise ConnectionResetError("connection closed before the answer was complete")
        self._news.clear()
        await self._news.wait()

    async def head(self) -> bytes:
        """The head with its empty line."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > _HEAD_BYTES:
                raise ConnectionResetError("answer head too large")
            await self._more()
        self._end = end + 4
        return bytes(self._data[: self._end])

    def rest(self) -> bytes:
        """What has come after the head."""
        return bytes(self._data[self._end :])

    async def body(self, headers: Iterable[tuple[str, str]]) -> bytes:
        """The body of a plain answer."""
        length = next((int(v) for k, v in headers if k.lower() == "content-length" and v.isdigit()), None)
        while length is None or len(self._data) - self._end < min(length, 1 << 20):
            if self._lost:
                break
            await self._more()
        return self.rest() if length is None else self.rest()[:length]


def _parse(head: bytes) -> tuple[int, list[tuple[str, str]]]:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise ServiceUnavailable(f"malformed HTTP response {lines[0]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip(), value.strip()))
    return int(parts[1]), headers


def request_head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request, from checked parts. Raises ValueError for what could smuggle another request."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line for line in lines) or " " in path:
        raise ValueError("line breaks in a request head")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
