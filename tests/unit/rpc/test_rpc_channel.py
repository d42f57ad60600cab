"""Our gRPC client against grpcio's own server, and against servers that break the rules."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from machinery import pki
from machinery.rpc import frames
from machinery.rpc.channel import Address, Channel
from machinery.rpc.status import Code, RpcError

ECHO, FAIL, HANG, CHAT, SEND = "/t.T/Echo", "/t.T/Fail", "/t.T/Hang", "/t.T/Chat", "/t.T/Send"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Methods of bytes."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    def service(self, details: Any) -> Any:
        """By path."""
        if details.method == CHAT:
            return grpc.stream_stream_rpc_method_handler(self.chat)
        found = {ECHO: self.echo, FAIL: self.fail, HANG: self.hang, SEND: self.send}.get(details.method)
        return grpc.unary_unary_rpc_method_handler(found) if found else None

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def send(self, request: bytes, context: Any) -> bytes:
        return b"x" * int(request)

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, request.decode())
        raise AssertionError

    async def hang(self, request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                if request == b"bye":
                    return
                for _ in range(3):
                    yield request
        finally:
            self.cancelled.set()


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[tuple[grpc.aio.Server, Address]]:
    made = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    made.add_generic_rpc_handlers((service,))
    port = made.add_insecure_port("127.0.0.1:0")
    await made.start()
    yield made, Address("127.0.0.1", port)
    await made.stop(None)


@pytest.fixture
async def channel(server: tuple[grpc.aio.Server, Address]) -> AsyncIterator[Channel]:
    made = Channel(server[1], None)
    yield made
    await made.close()


@pytest.mark.parametrize("size", [0, 1, 100, 16_379, 16_380, 65_535, 70_000, 3_000_000])
async def test_a_message_of_any_size_goes_and_comes(channel: Channel, size: int) -> None:
    message = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
    assert await channel.unary(ECHO, message, 10) == message


async def test_many_calls_at_once_get_each_its_own_answer(channel: Channel) -> None:
    messages = [b"%d" % n * (n * 37 % 5_000) for n in range(500)]
    assert await asyncio.gather(*(channel.unary(ECHO, message, 20) for message in messages)) == messages


async def test_an_error_comes_with_its_code_and_text(channel: Channel) -> None:
    for _ in range(3):  # the second time its headers are known
        with pytest.raises(RpcError) as caught:
            await channel.unary(FAIL, "100 % zu groß".encode(), 5)
        assert (caught.value.code, caught.value.details) == (Code.OUT_OF_RANGE, "100 % zu groß")
    assert await channel.unary(ECHO, b"on", 5) == b"on"


async def test_an_unknown_method_is_unimplemented(channel: Channel) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary("/t.T/Nothing", b"", 5)
    assert caught.value.code is Code.UNIMPLEMENTED


async def test_a_call_ends_at_its_deadline_and_the_server_is_told(channel: Channel, service: Service) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary(HANG, b"", 0.1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await asyncio.wait_for(service.cancelled.wait(), 5)
    assert await channel.unary(ECHO, b"on", 5) == b"on"


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(channel: Channel, service: Service) -> None:
    await channel.unary(ECHO, b"", 5)
    task = asyncio.ensure_future(channel.unary(HANG, b"", 30))
    await channel.unary(ECHO, b"after", 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(service.cancelled.wait(), 5)


async def test_a_stream_carries_messages_both_ways_until_its_end(channel: Channel) -> None:
    call = await channel.stream(CHAT, 5)
    for message in (b"a", b"b" * 100_000):
        call.write(message)
        assert [await call.read() for _ in range(3)] == [message] * 3
    call.write(b"bye")
    assert await call.read() is None


async def test_a_stream_that_is_cancelled_wakes_its_reader(channel: Channel, service: Service) -> None:
    call = await channel.stream(CHAT, 5)
    call.write(b"a")
    assert await call.read() == b"a"
    await call.read()
    await call.read()
    reading = asyncio.ensure_future(call.read())
    await channel.unary(ECHO, b"", 5)
    call.cancel()
    with pytest.raises(RpcError) as caught:
        await reading
    assert caught.value.code is Code.CANCELLED
    await asyncio.wait_for(service.cancelled.wait(), 5)
    with pytest.raises(RpcError):
        call.write(b"more")


async def test_a_large_answer_and_a_small_one_share_the_connection(channel: Channel) -> None:
    large = asyncio.ensure_future(channel.unary(SEND, b"30000000", 30))
    assert await channel.unary(ECHO, b"small", 10) == b"small"
    assert len(await large) == 30_000_000


async def test_a_server_that_is_not_there_is_told_at_once_and_found_when_it_comes(service: Service) -> None:
    holder = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = holder.sockets[0].getsockname()[1]
    holder.close()
    await holder.wait_closed()
    channel = Channel(Address("127.0.0.1", port), None)
    with pytest.raises(RpcError) as caught:
        await channel.unary(ECHO, b"", 5)
    assert caught.value.code is Code.UNAVAILABLE
    assert not caught.value.sent
    assert f"failed to connect to 127.0.0.1:{port}" in caught.value.details
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await channel.unary(ECHO, b"x", 5) == b"x"
                    break
                except RpcError:
                    await asyncio.sleep(0.02)
    finally:
        await channel.close()
        await server.stop(None)


async def test_a_server_that_stops_lets_calls_finish_and_takes_no_more(
    server: tuple[grpc.aio.Server, Address], channel: Channel
) -> None:
    task = asyncio.ensure_future(channel.unary(SEND, b"10", 5))
    hanging = asyncio.ensure_future(channel.unary(HANG, b"", 30))
    assert await task == b"x" * 10
    await server[0].stop(0.2)
    with pytest.raises(RpcError) as caught:
        await hanging
    assert caught.value.code in (Code.UNAVAILABLE, Code.CANCELLED)
    with pytest.raises(RpcError) as caught:
        await channel.unary(ECHO, b"", 1)
    assert not caught.value.sent


async def test_tls_is_spoken_with_both_certificates(tmp_path: Path, service: Service) -> None:
    authority = pki.make_authority("etcd-ca")
    pair = pki.issue(
        authority, "etcd", usages=("digital signature", "server auth", "client auth"), names=("127.0.0.1",)
    )
    for name, data in (("ca.crt", authority.certificate_pem), ("crt", pair.certificate_pem), ("key", pair.key_pem)):
        (tmp_path / name).write_bytes(data)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    credentials = grpc.ssl_server_credentials(
        [(pair.key_pem, pair.certificate_pem)], authority.certificate_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        made.set_alpn_protocols(["h2"])
        made.load_cert_chain(tmp_path / "crt", tmp_path / "key")
        return made

    channel, stranger = (
        Channel(Address("127.0.0.1", port), context),
        Channel(Address("127.0.0.1", port), lambda: ssl.create_default_context()),
    )
    try:
        assert await channel.unary(ECHO, b"secret" * 10_000, 5) == b"secret" * 10_000
        with pytest.raises(RpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.unary(ECHO, b"", 5)
    finally:
        await channel.close()
        await stranger.close()
        await server.stop(None)


@asynccontextmanager
async def _served(serve: Serve) -> AsyncIterator[Channel]:
    """A channel to a server that speaks by hand."""
    tasks: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def run() -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

        tasks.append(asyncio.ensure_future(run()))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    channel = Channel(Address("127.0.0.1", server.sockets[0].getsockname()[1]), None)
    try:
        yield channel
    finally:
        await channel.close()
        await asyncio.gather(*tasks)
        server.close()
        await server.wait_closed()


_HELLO = frames.frame(frames.SETTINGS, 0, 0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 64, "too large"),
        (_HELLO + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), "can't be read"),
        (_HELLO + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""), "a continuation of nothing"),
        (_HELLO + frames.frame(frames.PUSH_PROMISE, 0, 1, b""), "a push"),
        (_HELLO + frames.frame(frames.SETTINGS, 0, 0, b"odd"), "odd length"),
        (_HELLO + frames.frame(frames.HEADERS, frames.PADDED, 1, b"\x09a"), "more padding than frame"),
    ],
)
async def test_a_server_that_breaks_the_rules_fails_the_call(said: bytes, told: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(said)
        await reader.read()

    async with _served(serve) as channel:
        with pytest.raises(RpcError, match=told):
            await channel.unary(ECHO, b"", 5)


async def test_a_connection_that_is_cut_leaves_calls_unsure(channel: Channel) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_HELLO)
        await reader.readuntil(b"request")
        writer.transport.abort()

    async with _served(serve) as cut:
        with pytest.raises(RpcError, match="lost") as caught:
            await cut.unary(ECHO, b"request", 5)
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.sent


async def test_windows_and_numbers_of_streams_are_kept_to() -> None:
    """A server that takes one stream at a time and 10 bytes before it opens the window."""
    sizes: list[int] = []
    settings = b"\x00\x03\x00\x00\x00\x01" + b"\x00\x04\x00\x00\x00\x0a"
    answer = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x88")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)
        writer.write(frames.frame(frames.SETTINGS, 0, 0, settings))
        while True:
            top = await reader.readexactly(frames.HEAD_BYTES)
            stream = int.from_bytes(top[5:])
            payload = await reader.readexactly(int.from_bytes(top[:3]))
            if top[3] != frames.DATA:
                continue
            sizes.append(len(payload))
            writer.write(frames.window_update(stream, 10))
            if top[4] & frames.END_STREAM:
                block = b"\x40\x0bgrpc-status\x010"
                message = b"\0\0\0\0\x02ok"
                writer.write(
                    frames.frame(frames.HEADERS, frames.END_HEADERS, stream, answer[9:])
                    + frames.frame(frames.DATA, frames.PADDED, stream, b"\x03" + message + b"\0\0\0")
                    + frames.frame(frames.HEADERS, frames.END_STREAM, stream, block[:4])
                    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, stream, block[4:])
                )

    async with _served(serve) as channel:
        calls = [channel.unary(ECHO, b"m" * 30, 5) for _ in range(3)]
        assert await asyncio.gather(*calls) == [b"ok"] * 3
        assert max(sizes) <= 10
        assert sum(sizes) == 3 * 35
