"""A resolver outside the cluster: answers what a table says, over UDP and TCP, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dnslib import QTYPE, DNSRecord

Handler = Callable[[DNSRecord], DNSRecord | None]


@dataclass
class Outside:
    """Where it is, and which names it was asked for (protocol, name, type)."""

    handler: Handler
    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def answer(self, protocol: str, message: bytes) -> bytes | None:
        query = DNSRecord.parse(message)
        self.asked.append((protocol, str(query.q.qname), QTYPE[query.q.qtype]))
        reply = self.handler(query)
        if reply is None:
            return None
        packed = bytes(reply.pack())
        if protocol == "udp" and len(packed) > 1232:
            reply.rr, reply.header.tc = [], 1
            packed = bytes(reply.pack())
        return packed


@asynccontextmanager
async def outside(handler: Handler) -> AsyncIterator[Outside]:
    made = Outside(handler)

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport: asyncio.DatagramTransport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            reply = made.answer("udp", data)
            if reply is not None:
                self.transport.sendto(reply, address)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            reply = made.answer("tcp", await reader.readexactly(length)) or b""
            writer.write(struct.pack(">H", len(reply)) + reply)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", made.port))
    try:
        yield made
    finally:
        transport.close()
        server.close()
        await server.wait_closed()
