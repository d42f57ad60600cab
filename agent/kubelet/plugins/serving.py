"""gRPC servers of the kubelet's own, on sockets in its directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from machinery.errors import NavarchError, SettingsError


class Refused(NavarchError):
    """A call that can't be answered: its text goes to the caller; `missing`: what is asked for does not exist."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True)
class Method:
    """How one call is answered: its request's type, and what makes the answer."""

    request: Any
    answer: Callable[[Any], Awaitable[Any]]


class SocketServer:
    """Serves methods by name on a Unix socket."""

    def __init__(self, path: str, service: str, methods: Mapping[str, Method]) -> None:
        self._path = path
        self._server = grpc.aio.server()
        handlers = {name: _handler(method) for name, method in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    async def start(self) -> None:
        """Listen. Raises SettingsError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
            await self._server.start()
            os.chmod(self._path, 0o660)
        except (RuntimeError, OSError) as error:
            raise SettingsError(f"cannot listen on {self._path}: {error}") from error

    async def stop(self) -> None:
        """End what is under way, and remove the socket."""
        await self._server.stop(0)
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _handler(method: Method) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        try:
            return await method.answer(request)
        except Refused as error:
            code = grpc.StatusCode.NOT_FOUND if error.missing else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(error))

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=method.request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
