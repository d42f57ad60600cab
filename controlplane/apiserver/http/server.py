"""Listening, and the connections there are.

Source: k8s.io/apiserver/pkg/server/secure_serving.go (timeouts), net/http (Shutdown).
"""

from __future__ import annotations

import asyncio
import ssl

from controlplane.apiserver.http.connection import Connection, Handler

IDLE_SECONDS = 90.0
HEAD_SECONDS = 32.0  # how long a head may take to come
STALL_SECONDS = 60.0  # how long a client may leave unread what was sent to it
_SWEEP_SECONDS = 5.0
_FLUSH_SECONDS = 1.0


class HttpServer:
    """Serves one address. Make it inside the running event loop."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.stopping = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Begin to serve; the port. Raises OSError."""
        self._server = await self.loop.create_server(
            lambda: Connection(self), host, port, ssl=tls, backlog=1024, reuse_address=True
        )
        self._sweep()
        return int(self._server.sockets[0].getsockname()[1])

    def _sweep(self) -> None:
        """Close connections that have been idle, slow with a head, or not reading, for too long."""
        now = self.loop.time()
        for connection in list(self.connections):
            if connection.stalled and now - connection.stalled > STALL_SECONDS:
                connection.transport.abort()
                continue
            if connection.since and now - connection.since > (HEAD_SECONDS if connection.waits else IDLE_SECONDS):
                connection.transport.close()
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {connection.task for connection in self.connections if connection.task is not None}

    def stop_listening(self) -> None:
        """Take no more connections; those there are end with the answer under way, idle ones at once."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            if connection.task is None and not connection.handed_over:
                connection.transport.close()

    async def drain(self, seconds: float, stream_seconds: float = 0) -> None:
        """Let streams go on for `stream_seconds` and other requests for `seconds`; then close everything."""
        if stream_seconds and (tasks := self._tasks()):
            await asyncio.wait(tasks, timeout=stream_seconds)
        for connection in list(self.connections):
            connection.stop()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=seconds)
        self.stop_listening()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.transport.close()
        if self._server is None:
            return
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._server.wait_closed()
        except TimeoutError:  # clients that do not take what was sent
            for connection in list(self.connections):
                connection.transport.abort()
