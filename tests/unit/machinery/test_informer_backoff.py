"""An informer whose watch fails at once, again and again: what a load balancer without servers looks like."""

from __future__ import annotations

import asyncio

from machinery.api.catalogue import PODS
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

EMPTY = b'{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}'
ATTEMPTS = 10  # the client itself tries everything twice


async def test_each_failed_resumption_waits_longer_than_the_one_before() -> None:
    attempts: list[float] = []
    enough = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"watch=" in head:
            attempts.append(asyncio.get_running_loop().time())
            if len(attempts) == ATTEMPTS:
                enough.set()
        else:
            length = str(len(EMPTY)).encode()
            headers = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: "
            writer.write(b"HTTP/1.1 200 OK\r\n" + headers + length + b"\r\n\r\n" + EMPTY)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Client(ClientConfig(server=f"http://127.0.0.1:{port}"), user_agent="test") as client:
        informers = Informers(client)
        informers.of(PODS)
        async with informers:
            await asyncio.wait_for(enough.wait(), 30)
    # Four waits of 0.1, 0.2, 0.4, 0.8 s, each times 0.5 to 1.5; without doubling they would be 0.6 s at most.
    assert attempts[-1] - attempts[0] > 0.7
