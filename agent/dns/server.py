"""Listening: datagrams and connections in, answers out.

Source: RFC 1035 4.2, RFC 7766 (DNS over TCP).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from agent.dns import metrics
from agent.dns.responding import Later, Responder
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_IDLE_SECONDS = 10.0  # of a TCP connection
_MOST_CONNECTIONS = 1000
_MOST_WAITING = 1000  # queries that wait for upstream; more would only make all of them late
_RECEIVE_BYTES = 4 << 20  # for datagrams that come while something else is being done


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self.closed = asyncio.Event()
        self._server = server
        self._kept = server.responder.kept
        self._count_request = metrics.REQUESTS.labels("udp").inc
        self._count_kept = metrics.KEPT_HITS.inc

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()

    def datagram_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        self._count_request()
        kept = self._kept(data)
        if kept is not None:
            self._count_kept()
            self._transport.sendto(kept, address)
            return
        answer = self._server.responder.at_once(data, tcp=False)
        if isinstance(answer, Later):
            self._server.answer_later(answer, self._transport, address)
        elif answer is not None:
            self._transport.sendto(answer, address)


class DnsServer:
    """Answers on UDP and TCP while it is entered."""

    def __init__(self, responder: Responder, addresses: Sequence[str], port: int) -> None:
        """`addresses` are where to listen; port 0 takes a free one."""
        self.responder = responder
        self.port = port
        self._addresses = addresses
        self._datagrams: list[tuple[asyncio.DatagramTransport, _Datagrams]] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Bind. Raises SettingsError when an address is not to be had."""
        for address in self._addresses:
            try:
                await self._bind(address)
            except OSError as error:
                await self._close()
                raise SettingsError(f"cannot listen on {address} port {self.port}: {error.strerror}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _bind(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = await asyncio.start_server(self._connection, address, self.port, family=family)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        sock.bind((address, self.port))
        self._datagrams.append(await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock))

    async def _close(self) -> None:
        """Return when the port is free again: a new configuration may want it at once."""
        for transport, _ in self._datagrams:
            transport.close()
        for server in self._servers:
            server.close()
        for task in (*self._tasks, *self._connections):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._connections, return_exceptions=True)
        await asyncio.gather(*(datagrams.closed.wait() for _, datagrams in self._datagrams))
        await asyncio.gather(*(server.wait_closed() for server in self._servers))

    # -- UDP ---------------------------------------------------------------------------------------------------------

    def answer_later(self, answer: Later, transport: asyncio.DatagramTransport, address: tuple[Any, ...]) -> None:
        """Send the answer when it is there."""
        if len(self._tasks) >= _MOST_WAITING:
            metrics.OVERLOADED.inc()
            return
        task = asyncio.ensure_future(self._send_later(answer, transport, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _send_later(answer: Later, transport: asyncio.DatagramTransport, address: tuple[Any, ...]) -> None:
        message = await answer.message()
        if not transport.is_closing():
            transport.sendto(message, address)

    # -- TCP ---------------------------------------------------------------------------------------------------------

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away, or had nothing more to ask
        finally:
            self._connections.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                message = await reader.readexactly(length)
            metrics.REQUESTS.labels("tcp").inc()
            answer = self.responder.at_once(message, tcp=True)
            if isinstance(answer, Later):
                answer = await answer.message()
            if answer is None:
                return
            writer.write(struct.pack(">H", len(answer)) + answer)
            async with asyncio.timeout(_IDLE_SECONDS):
                await writer.drain()
