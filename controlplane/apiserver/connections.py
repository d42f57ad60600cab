"""The HTTP library's server, answering in the API's words what the library itself refuses.

Source: k8s.io/apiserver (MethodNotAllowed for methods that HTTP does not know).
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.web_protocol import RequestHandler

from controlplane.apiserver.handlers.failures import no_such_method


class _Connection(RequestHandler):
    """One connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A Status for methods nobody knows; the rest as the library has it."""
        if isinstance(exc, BadHttpMethod):
            error = no_such_method()
            response = web.Response(
                body=orjson.dumps(error.to_status()), status=error.code, content_type="application/json"
            )
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)


class Server(web.Server):
    """Makes such connections."""

    def __call__(self) -> RequestHandler:
        """A connection, for one that has been accepted."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
