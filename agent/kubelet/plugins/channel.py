"""A connection to one plugin's socket. Failures are CriErrors, whose text is the one that upstream prints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc

from agent.cri.errors import CriError, map_error

_Answer = TypeVar("_Answer")

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_MAX_BYTES = 16 * 1024 * 1024


class PluginChannel:
    """Calls to one plugin; close it in the end."""

    def __init__(self, path: str) -> None:
        options = [*_OPTIONS, ("grpc.max_receive_message_length", _MAX_BYTES)]
        self._channel = grpc.aio.insecure_channel(f"unix:{path}", options=options)
        self.path = path

    async def call(self, method: str, request: Any, answer: type[_Answer], timeout_seconds: float = 120.0) -> _Answer:
        """One call. Raises CriError."""
        made = self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        try:
            found: _Answer | None = await made(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise map_error(error) from error
        if found is None:  # grpc's way to say that it could not read the answer
            raise CriError("Internal", "grpc: failed to unmarshal the received message")
        return found

    async def stream(self, method: str, request: Any, answer: type[_Answer]) -> AsyncIterator[_Answer]:
        """The answers of a call that goes on, until the plugin ends it. Raises CriError."""
        call = self._channel.unary_stream(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )(request)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise map_error(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
