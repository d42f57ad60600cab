"""A server to call: one connection at a time, made when it is needed and made again when it is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from machinery.rpc import frames
from machinery.rpc.calls import Call, Streaming, Unary
from machinery.rpc.connection import Connection
from machinery.rpc.status import Code, RpcError

_CONNECT_SECONDS = 3.0
_KEEPALIVE_SECONDS = 10.0  # of silence, after which the server is asked whether it is there
_SILENCE_SECONDS = 3.0  # how long it may take to answer that
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0  # between attempts to connect


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Channel:
    """Calls of one server. Make it inside the running event loop; close it there."""

    def __init__(self, address: Address, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """`tls` is asked before each connection, so that renewed files are used; None: no TLS."""
        self._address = address
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._blocks: dict[str, bytes] = {}
        self._pause = 0.0
        self._not_before = 0.0
        self._failure = ""
        self._keepalive: asyncio.TimerHandle | None = None
        self._closed = False

    async def unary(self, path: str, message: bytes, timeout: float) -> bytes:
        """Call a method (`/package.Service/Method`) with one message; `timeout` in seconds. Raises RpcError."""
        end = self._loop.time() + timeout
        connection = self._connection or await self._connected(timeout)
        future: asyncio.Future[bytes] = self._loop.create_future()
        call = Unary(future)
        connection.begin(call, self._block(path), _framed(message), last=True)
        timer = self._loop.call_at(end, _expire, connection, call)
        try:
            return await future
        except asyncio.CancelledError:
            connection.cancel(call)
            raise
        finally:
            timer.cancel()

    async def stream(self, path: str, timeout: float) -> Streaming:
        """Begin a call that streams both ways; connecting may take `timeout` seconds. Raises RpcError."""
        connection = self._connection or await self._connected(timeout)

        def write(call: Call, message: bytes) -> None:
            connection.write(call, _framed(message), last=False)

        call = Streaming(self._loop, write, connection.cancel)
        connection.begin(call, self._block(path), b"", last=False)
        return call

    async def close(self) -> None:
        """End everything."""
        self._closed = True
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        connection = self._connection
        if connection is not None:
            connection.fail("the channel is closed")

    def _block(self, path: str) -> bytes:
        block = self._blocks.get(path)
        if block is None:
            block = frames.request_block(path, str(self._address), self._tls is not None)
            self._blocks[path] = block
        return block

    async def _connected(self, timeout: float) -> Connection:
        """A connection; all who need one wait for the same. Raises RpcError, at once after a recent failure."""
        if self._closed:
            raise RpcError(Code.UNAVAILABLE, "the channel is closed", sent=False)
        if self._connecting is None:
            if self._loop.time() < self._not_before:
                raise RpcError(Code.UNAVAILABLE, self._failure, sent=False)
            self._connecting = self._loop.create_task(self._connect())
        done, _ = await asyncio.wait({self._connecting}, timeout=timeout)
        if not done:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"connecting to {self._address} takes too long", sent=False)
        task = done.pop()
        if task.cancelled():
            raise RpcError(Code.UNAVAILABLE, "the channel is closed", sent=False)
        return task.result()

    async def _connect(self) -> Connection:
        made: Connection | None = None

        def factory() -> Connection:
            nonlocal made
            made = Connection(self._loop, str(self._address), self._lost)
            return made

        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                context = self._tls() if self._tls is not None else None
                name = self._address.host if context is not None else None
                _, connection = await self._loop.create_connection(
                    factory, self._address.host, self._address.port, ssl=context, server_hostname=name
                )
                await connection.ready
            if not connection.usable:
                raise ConnectionResetError(connection.failure)
        except (OSError, RpcError, TimeoutError) as exc:
            if made is not None:
                made.abort()
            self._pause = min(max(self._pause * 2, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self._not_before = self._loop.time() + self._pause
            self._failure = f"failed to connect to {self._address}: {exc or type(exc).__name__}"
            raise RpcError(Code.UNAVAILABLE, self._failure, sent=False) from exc
        finally:
            self._connecting = None
        self._pause = 0.0
        self._connection = connection
        self._watch_over(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            if self._keepalive is not None:
                self._keepalive.cancel()

    def _watch_over(self, connection: Connection) -> None:
        """After silence ask whether the server is there; give the connection up if it does not say so."""

        def silent() -> None:
            if connection.heard:
                again()
            else:
                connection.fail(f"{self._address} does not answer")

        def look() -> None:
            if connection.heard:
                again()
            else:
                connection.ping()
                self._keepalive = self._loop.call_later(_SILENCE_SECONDS, silent)

        def again() -> None:
            connection.heard = False
            self._keepalive = self._loop.call_later(_KEEPALIVE_SECONDS, look)

        if connection.usable:
            again()


def _framed(message: bytes) -> bytes:
    """A message as gRPC frames it."""
    return b"\0" + len(message).to_bytes(4) + message


def _expire(connection: Connection, call: Call) -> None:
    connection.cancel(call)
    call.end(RpcError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", sent=call.number != 0))
