"""The HTTP server, spoken to by hand: framing, limits, clients that leave, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controlplane.apiserver.http import websocket
from controlplane.apiserver.http.body import Body
from controlplane.apiserver.http.connection import Response
from controlplane.apiserver.http.pieces import Joined
from controlplane.apiserver.http.request import Answered, Request
from controlplane.apiserver.http.server import HttpServer
from machinery.errors import StatusError

LIMIT = 1000


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("not reached")


@dataclass
class Echo:
    """Tells what was asked; some paths do more."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def handle(self, request: Request) -> Response | Answered:
        if request.target == "/stream":
            stream = request.start(200, [])
            stream.write(b"first")
            self.begun.set()
            await self.go.wait()
            stream.end()
            return stream
        if request.target == "/wait":
            self.begun.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.ended.put_nowait("cancelled")
                raise
            self.ended.put_nowait("finished")
        if request.target == "/socket":
            socket = websocket.accept(request, ["known"])
            socket.send(b"hello")
            await socket.closed.wait()
            request.release()
            return Answered(101)
        if request.target == "/long":
            return Response(200, [], Joined(b"[", [b"x" * 99_999] * 1000, b",", b"]"))
        if request.target == "/big":
            await until(lambda: request.body.complete)  # it comes while nobody reads it
            return Response(200, [], b"%d" % len(await request.body.read(2 << 20)))
        if request.target == "/list":
            return Response(200, [], Joined(b"[", [b"xx%d" % n for n in range(3)], b",", b"]", 2))
        try:
            body = await request.body.read(LIMIT)
        except StatusError as exc:
            return Response(exc.code, [], exc.message.encode())
        told = f"{request.method} {request.target} {request.headers.get('X-Told', '')} {body.decode()}"
        return Response(200, [("X-Answer", "one\r\nX-Injected: two")], told.encode())


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Echo, Callable[[], Client], HttpServer]]:
    echo = Echo()
    server = HttpServer(echo.handle)
    port = await server.listen("127.0.0.1", 0, None)
    yield echo, lambda: Client(port), server
    server.stop_listening()
    await server.drain(1)


class Client:
    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.close()

    async def say(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode())
        await self.writer.drain()

    async def answer(self) -> tuple[str, dict[str, str], bytes]:
        """(status line, headers, body of Content-Length)"""
        line, headers = await self.head()
        return line, headers, await self.reader.readexactly(int(headers.get("Content-Length", 0)))

    async def head(self) -> tuple[str, dict[str, str]]:
        line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        return line, dict(each.split(": ", 1) for each in lines)


async def test_requests_of_one_connection_are_answered_in_turn() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say("GET /a HTTP/1.1\nHost: h\nX-Told: t\n\nPOST /b HTTP/1.1\nHost: h\nContent-Length: 2\n\nhi")
        assert (await client.answer())[2] == b"GET /a t "
        line, headers, body = await client.answer()
        assert (line, body) == ("HTTP/1.1 200 OK", b"POST /b  hi")
        assert "X-Injected" not in headers
        assert headers["X-Answer"] == "one  X-Injected: two"
        await client.say("GET /c HTTP/1.1\nHost: h\nX-Told: t\n\n")  # a head that is recognised by its lines
        await client.say("GET http://h/d?e HTTP/1.1\nHost: h\nX-Told: t\n\n")
        assert [(await client.answer())[2], (await client.answer())[2]] == [b"GET /c t ", b"GET /d?e t "]


async def test_a_body_may_come_in_chunks_and_slowly() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n3\nabc\n")
        await client.say("2\nde\n0\n\n")
        assert (await client.answer())[2] == b"POST /  abcde"
        await client.say("POST / HTTP/1.1\nHost: h\nContent-Length: 6\n\nabc")
        await client.say("def")
        assert (await client.answer())[2] == b"POST /  abcdef"


@pytest.mark.parametrize("head", ["GET / HTTP/1.1\nHost: h\nConnection: te, Close\n\n", "GET / HTTP/1.0\nHost: h\n\n"])
async def test_a_connection_ends_with_its_answer_if_the_client_says_so(head: str) -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say(head)
        assert (await client.reader.read()).endswith(b"\r\n\r\nGET /  ")


async def test_a_connection_goes_on_after_a_body_that_came_before_anybody_wanted_it() -> None:
    async with serving() as (echo, connect, server), connect() as client:
        size = 3 << 20
        await client.say(f"POST /wait HTTP/1.1\nHost: h\nContent-Length: {size}\n\n")
        await echo.begun.wait()
        (connection,) = server.connections
        client.writer.write(b"x" * size)
        await until(lambda: not connection.transport.is_reading())
        echo.go.set()
        assert (await client.answer())[0] == "HTTP/1.1 413 Request Entity Too Large"


async def test_a_body_of_just_too_much_at_once_does_not_stop_the_connection() -> None:
    async with serving() as (_, connect, _), connect() as client:
        for _ in range(3):
            await client.say("POST /big HTTP/1.1\nHost: h\nContent-Length: 1048700\n\n" + "x" * 1048700)
            assert (await client.answer())[2] == b"1048700"


async def test_a_body_that_was_held_back_may_come_the_moment_it_is_wanted() -> None:
    def flow(on: bool) -> None:
        flows.append(on)
        if on and not body.complete:
            body.feed(b"rest")
            body.finish()

    flows: list[bool] = []
    body = Body(flow)
    body.feed(b"x" * (2 << 20))  # more than waits unread
    async with asyncio.timeout(5):
        assert (await body.read(3 << 20)).endswith(b"xrest")
    assert flows == [False, True]


async def test_a_client_that_expects_it_is_told_to_go_on() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say("PUT / HTTP/1.1\nHost: h\nContent-Length: 2\nExpect: 100-continue\n\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say("ok")
        assert (await client.answer())[2] == b"PUT /  ok"


@pytest.mark.parametrize(
    "head",
    [
        "nonsense\n\n",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\nHost: a\nHost: b\n\n",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 1\nContent-Length: 2\n\n",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 1\nTransfer-Encoding: chunked\n\n",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: gzip\n\n",
        "POST / HTTP/1.1\nHost: h\nContent-Length: -1\n\n",
        "GET / HTTP/1.1\nHost: h\nBad Name: x\n\n",
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(head: str) -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say(head)
        data = await client.reader.read()
        assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Connection: close" in data


async def test_broken_chunks_fail_the_request() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\nzz\n")
        assert (await client.answer())[0] == "HTTP/1.1 400 Bad Request"


async def test_who_sends_too_much_reads_why_before_the_connection_ends() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say(f"POST / HTTP/1.1\nHost: h\nContent-Length: {LIMIT * 100}\n\n{'x' * LIMIT * 2}")
        line, headers, body = await client.answer()
        assert line == "HTTP/1.1 413 Request Entity Too Large"
        assert headers["Connection"] == "close"
        assert b"limit is 1000" in body
        await client.say("y" * LIMIT * 98)
        assert await client.reader.read() == b""


async def test_an_offer_of_another_protocol_that_nobody_takes_is_a_request_like_any_other() -> None:
    async with serving() as (_, connect, _), connect() as client:
        offer = "Connection: Upgrade\nUpgrade: h2c\nContent-Length: 2"
        await client.say(f"POST /a HTTP/1.1\nHost: h\n{offer}\n\nhiGET /b HTTP/1.1\nHost: h\n\n")
        assert [(await client.answer())[2], (await client.answer())[2]] == [b"POST /a  hi", b"GET /b  "]


async def test_methods_of_no_standard_are_the_handlers_to_refuse() -> None:
    async with serving() as (_, connect, _), connect() as client:
        await client.say("FOO /a HTTP/1.1\nHost: h\nContent-Length: 2\n\nhi")
        assert (await client.answer())[2] == b"FOO /a  hi"


async def test_a_head_request_and_http_1_0() -> None:
    async with serving() as (_, connect, _):
        async with connect() as client:
            await client.say("HEAD /a HTTP/1.1\nHost: h\n\nGET /list HTTP/1.1\nHost: h\n\n")
            assert (await client.head())[1]["Content-Length"] == "9"
            assert (await client.answer())[2] == b"[0,1,2]"
        async with connect() as client:
            await client.say("GET /a HTTP/1.0\n\n")
            assert (await client.reader.read()).endswith(b"GET /a  ")


async def test_a_read_ends_with_its_client_and_a_write_does_not() -> None:
    async with serving() as (echo, connect, _):
        for method, outcome in (("GET", "cancelled"), ("POST", "finished")):
            echo.begun.clear()
            async with connect() as client:
                await client.say(f"{method} /wait HTTP/1.1\nHost: h\n\n")
                await echo.begun.wait()
            if method == "POST":
                echo.go.set()
            assert await echo.ended.get() == outcome


async def test_stopping_completes_streams_finishes_requests_and_closes_what_is_idle() -> None:
    async with serving() as (echo, connect, server), connect() as idle, connect() as streaming, connect() as waiting:
        await idle.say("GET /a HTTP/1.1\nHost: h\n\n")
        await idle.answer()
        await streaming.say("GET /stream HTTP/1.1\nHost: h\n\n")
        await echo.begun.wait()
        echo.begun.clear()
        await waiting.say("POST /wait HTTP/1.1\nHost: h\n\n")
        await echo.begun.wait()
        server.stop_listening()
        assert await idle.reader.read() == b""
        drained = asyncio.create_task(server.drain(5))
        assert (await streaming.reader.read()).endswith(b"\r\n\r\n5\r\nfirst\r\n0\r\n\r\n")
        echo.go.set()
        line, headers, _ = await waiting.answer()
        assert (line, headers["Connection"]) == ("HTTP/1.1 200 OK", "close")
        await drained


async def test_a_client_that_reads_slowly_gets_all_of_a_long_answer_and_little_of_it_waits_in_memory() -> None:
    async with serving() as (_, connect, server), connect() as client:
        await client.say("GET /long HTTP/1.1\nHost: h\n\n")
        _, headers = await client.head()
        (connection,) = server.connections
        left = int(headers["Content-Length"])
        while not connection.stalled:
            left -= len(await client.reader.read(1000))
        assert connection.transport.get_write_buffer_size() < 1 << 20
        assert (await client.reader.readexactly(left)).endswith(b"x]")


async def test_a_websocket_tells_and_answers_control_frames() -> None:
    key = "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: a, known"
    async with serving() as (_, connect, _), connect() as client:
        await client.say(f"GET /socket HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\n{key}\n\n")
        line, headers = await client.head()
        assert line == "HTTP/1.1 101 Switching Protocols"
        assert headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert headers["Sec-WebSocket-Protocol"] == "known"
        assert await client.reader.readexactly(7) == b"\x81\x05hello"
        client.writer.write(b"\x89\x82\x00\x00\x00\x00hi")  # a ping
        assert await client.reader.readexactly(4) == b"\x8a\x02hi"
        client.writer.write(b"\x88\x80\x00\x00\x00\x00")  # a close
        assert await client.reader.read() == b"\x88\x02\x03\xe8"
