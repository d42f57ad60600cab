"""Audit events sent to another server, many at a time.

Source: k8s.io/apiserver/plugin/pkg/audit/{webhook,buffered}.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from controlplane.apiserver.authz.remote import RemoteReview
from machinery.errors import TransportError
from machinery.log import get_logger

log = get_logger(__name__)

BUFFER_EVENTS = 10_000
BATCH_EVENTS = 400
BATCH_SECONDS = 30.0
_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
_LAST_SECONDS = 5.0  # how long what is left at the end may take to be sent


class WebhookSink:
    """Takes lines; `run` sends them. What comes faster than it can be sent is dropped and counted."""

    def __init__(
        self, remote: RemoteReview, batch_events: int = BATCH_EVENTS, batch_seconds: float = BATCH_SECONDS
    ) -> None:
        self._remote = remote
        self._batch_events = batch_events
        self._batch_seconds = batch_seconds
        self._lines: deque[bytes] = deque()
        self._full = asyncio.Event()
        self.dropped = 0

    def write(self, line: bytes) -> None:
        """Take an event."""
        if len(self._lines) >= BUFFER_EVENTS:
            self.dropped += 1
            return
        self._lines.append(line)
        if len(self._lines) >= self._batch_events:
            self._full.set()

    async def run(self) -> None:
        """Send batches until cancelled; then what is left."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._batch_seconds):
                        await self._full.wait()
                self._full.clear()
                await self._send_all()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._send_all()
            await self._remote.close()

    async def _send_all(self) -> None:
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(self._batch_events, len(self._lines)))]
            try:
                await self._remote.tell(_HEAD + b",".join(line.rstrip(b"\n") for line in batch) + b"]}")
            except TransportError as exc:
                self.dropped += len(batch)
                log.error("audit events lost", count=len(batch), error=exc)
