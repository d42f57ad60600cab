"""The lean HTTP client against servers that answer in every way that API servers do, and break off in some others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from machinery.client.wire import Answer, Wire, WireError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Served:
    """What came in, and by how many connections."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0


@asynccontextmanager
async def answering(answers: Sequence[bytes], *, close_after: bool = False) -> AsyncIterator[tuple[str, Served]]:
    """A server that gives these answers in turn; b"" breaks the connection off."""
    left = list(answers)
    served = Served()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        tasks.add(asyncio.current_task())
        while left:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length")), 0)
            served.requests.append(head + await reader.readexactly(length))
            answer = left.pop(0)
            for at in range(0, len(answer), 7):  # in pieces
                writer.write(answer[at : at + 7])
                await writer.drain()
            if close_after or not answer:
                break
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", served
        await asyncio.gather(*(task for task in tasks if task is not None))


async def ask(wire: Wire, path: str = "/x", body: bytes | None = None) -> Answer:
    return await wire.request("POST" if body is not None else "GET", path, {"Accept": "a/b"}, body, 5)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (OK, 200, b"hi"),
        (
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
            201,
            b"abcdefg",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: t\r\n\r\n", 200, b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"hi"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, b""),
    ],
)
async def test_answers_of_every_form(raw: bytes, status: int, body: bytes) -> None:
    async with answering([raw, OK]) as (url, served):
        wire = Wire(url, None)
        answer = await ask(wire, body=b"{}")
        assert (answer.status, answer.body) == (status, body)
        assert (await ask(wire)).body == b"hi"
        assert served.connections == 1, "the connection serves the next request too"
        assert served.requests[0].startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert served.requests[0].endswith(b"Accept: a/b\r\nContent-Length: 2\r\n\r\n{}")
        wire.close()


async def test_an_answer_that_ends_with_the_connection() -> None:
    async with answering([b"HTTP/1.1 200 OK\r\n\r\nall of it"], close_after=True) as (url, _):
        assert (await ask(Wire(url, None))).body == b"all of it"


async def test_a_server_that_closes_is_met_on_another_connection() -> None:
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    async with answering([close, OK]) as (url, served):
        wire = Wire(url, None)
        await ask(wire)
        assert (await ask(wire)).body == b"hi"
        assert served.connections == 2
        wire.close()


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"SMTP ready\r\n\r\n"])
async def test_what_breaks_off_or_is_no_http(raw: bytes) -> None:
    async with answering([raw], close_after=True) as (url, _):
        with pytest.raises(WireError):
            await ask(Wire(url, None))


async def test_a_late_answer_is_never_taken_for_another_requests() -> None:
    async with answering([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", OK]) as (url, served):
        wire = Wire(url, None)
        with pytest.raises(TimeoutError):
            await wire.request("GET", "/slow", {}, None, 0.05)
        assert (await ask(wire)).body == b"hi"
        assert served.connections == 2
        wire.close()


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with answering([OK] * 5) as (url, served):
        wire = Wire(url, None)
        assert [a.body for a in await asyncio.gather(*(ask(wire) for _ in range(5)))] == [b"hi"] * 5
        assert served.connections == 5
        wire.close()


@pytest.mark.parametrize(("path", "headers"), [("/a b", {}), ("/x\r\nY: z", {}), ("/x", {"A": "b\nC: d"})])
async def test_nothing_is_smuggled_into_a_request(path: str, headers: dict[str, str]) -> None:
    with pytest.raises(WireError):
        await Wire("http://127.0.0.1:9", None).request("GET", path, headers, None, 5)
