"""A request as handlers meet it, and the ways to answer: at once, as a stream, or by taking the connection over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from controlplane.apiserver.http.body import Body, WholeBody
from controlplane.apiserver.http.head import Head

if TYPE_CHECKING:
    from controlplane.apiserver.http.connection import Connection

Headers = Collection[tuple[str, str]]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_date: tuple[int, str] = (0, "")


def _now() -> str:
    """The Date header of this second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = second, f"Date: {formatdate(second, usegmt=True)}\r\n"
    return _date[1]


def _line(name: str, value: str) -> str:
    return f"{name}: {value.replace(chr(13), ' ').replace(chr(10), ' ')}\r\n"  # as Go's server does


def head(status: int, headers: Headers, last: str) -> bytes:
    """The head of an answer; `last` are further lines, as they are."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if not lines.count("\n") == lines.count("\r") == len(headers):
        lines = "".join([_line(name, value) for name, value in headers])
    start = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    return f"{start}{lines}{_now()}{last}\r\n".encode("utf-8", "replace")


_last: tuple[bytes, bytes] = (b"", b"")


def _chunk(data: bytes) -> bytes:
    """The data as a chunk: made once for what is sent to many, one after another."""
    global _last
    if _last[0] is not data:
        _last = data, b"%x\r\n%b\r\n" % (len(data), data)
    return _last[1]


class Answered:
    """Stands for an answer that has been given already."""

    __slots__ = ("status",)

    def __init__(self, status: int = 200) -> None:
        self.status = status


class Stream(Answered):
    """An answer whose body is written bit by bit."""

    __slots__ = ("_chunked", "_connection", "ended")

    def __init__(self, connection: Connection, status: int, *, chunked: bool) -> None:
        super().__init__(status)
        self._connection = connection
        self._chunked = chunked
        self.ended = False

    def write(self, data: bytes) -> int:
        """Send without waiting; how many bytes the client has not taken yet, or -1 if it is gone."""
        connection = self._connection
        transport = connection.transport
        if self.ended or transport.is_closing():
            return -1
        if data:
            transport.write(_chunk(data) if self._chunked else data)
        return transport.get_write_buffer_size() if connection.stalled else 0

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent. Raises ConnectionResetError."""
        await self._connection.writable()

    def end(self) -> None:
        """The body is complete."""
        if self.ended:
            return
        self.ended = True
        if self._chunked and not self._connection.transport.is_closing():
            self._connection.transport.write(b"0\r\n\r\n")

    def abort(self) -> None:
        """The body will never be complete: the client must see that."""
        self.ended = True
        self._connection.transport.abort()


class Request:
    """One request of a connection."""

    __slots__ = ("_connection", "body", "head", "headers", "method", "on_start", "started", "target")

    def __init__(self, connection: Connection, head: Head, body: Body | WholeBody) -> None:
        self._connection = connection
        self.head = head
        self.method = head.method
        self.target = head.target
        self.headers = head.headers
        self.body = body
        self.started: Stream | None = None
        self.on_start: Callable[[int], None] | None = None
        """Told the status when an answer begins that is a stream, or the connection is taken over."""

    @property
    def remote(self) -> str:
        """The client's address."""
        return self._connection.remote

    @property
    def peer_certificates(self) -> tuple[bytes, ...]:
        """The client's certificates (DER) as it showed them: not verified."""
        return self._connection.peer_certificates

    @property
    def has_body(self) -> bool:
        """Whether there is a body."""
        return self.head.length != 0

    def start(self, status: int, headers: Headers, length: int | None = None) -> Stream:
        """Begin an answer that is a stream: of `length` bytes, or of as many as come until it is ended."""
        keep = self._connection.keeps_alive(self.head)
        chunked = length is None and self.head.minor >= 1
        if length is not None:
            last = f"Content-Length: {length}\r\n"
        elif chunked:
            last = "Transfer-Encoding: chunked\r\n"
        else:
            last, keep = "", False
        if not keep:
            self._connection.close_after()
            last += "Connection: close\r\n"
        if self.on_start is not None:
            self.on_start(status)
        bodiless = self.method == "HEAD" or status in (204, 304)
        self._connection.transport.write(head(status, headers, last))
        self.started = Stream(self._connection, status, chunked=chunked and not bodiless)
        return self.started

    def take_over(self, protocol: asyncio.Protocol, answer_head: bytes) -> asyncio.Transport:
        """Answer, and give the connection to another protocol, for good; what has come early is told to it.

        Call `release` when that protocol has ended.
        """
        if self.on_start is not None:
            self.on_start(101)
        return self._connection.hand_over(protocol, answer_head)

    def release(self) -> None:
        """The connection that was taken over has come to its end."""
        self._connection.release()
