"""The border with HTTP: who asks, may they, which handler, and the answer or failure as bytes.

Writes go on to their end even if the client has gone; reads and watches end with it.

Source: k8s.io/apiserver/pkg/server/config.go (the chain of filters).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex

import orjson

from controlplane.apiserver import compression
from controlplane.apiserver.authz.refusal import forbidden
from controlplane.apiserver.dispatch import dispatch
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.encoding import encode
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.paths import Paths
from controlplane.apiserver.http.connection import Response
from controlplane.apiserver.http.request import Answered, Request
from controlplane.apiserver.metrics import observe
from controlplane.apiserver.negotiation import PLAIN, Form, negotiate
from controlplane.apiserver.request import Credentials, User
from controlplane.apiserver.routing import Router, Target
from machinery.errors import InternalError, NotAcceptable, StatusError, StorageUnavailable, Unauthorized
from machinery.log import get_logger

log = get_logger(__name__)

_OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})  # as --authorization-always-allow-paths has it by default
_WARNINGS_BYTES = 4096  # all Warning headers of an answer together


@dataclass
class App:
    """Answers HTTP requests."""

    api: Api
    paths: Paths
    router: Router

    async def handle(self, request: Request) -> Response | Answered:
        """Answer one request: what the HTTP server calls."""
        start = self.api.clock.monotonic()
        target = self.router.target(request.method, request.target)
        exchange = Exchange(
            request, request.method, target, request.headers, _NOBODY, self.api.settings.max_request_body_bytes
        )
        exchange.answer_headers["Audit-Id"] = _new_id()
        try:
            exchange.user = await self._authenticate(request, target)
            await self._authorize(exchange.user, target)
            answer = await dispatch(self.api, self.paths, exchange)
        except StatusError as exc:
            answer = self._failure(exc, request)
        except StorageUnavailable as exc:
            log.error("storage unavailable", path=target.path, error=exc)
            answer = self._failure(InternalError(str(exc)), request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as exc:  # the border: a defect costs its request and nothing else
            log.error("request failed", path=target.path, method=request.method, error=exc, trace=True)
            told = f"This request caused apiserver to panic. Look in the logs for details: {type(exc).__name__}"
            answer = self._failure(InternalError(told), request)
        if isinstance(answer, Answered):
            return answer
        observe(exchange, answer.status, len(answer.body), self.api.clock.monotonic() - start)
        return await self._response(answer, exchange)

    async def _authenticate(self, request: Request, target: Target) -> User:
        extensions = self.api.extensions
        credentials = Credentials(request.peer_certificates, request.headers, request.remote)
        for authenticator in extensions.authenticators:
            user = await authenticator.authenticate(credentials)
            if user is not None:
                break
        else:
            raise Unauthorized("Unauthorized")
        if request.head.impersonates:
            return await extensions.impersonate(user, request.headers, target.info)
        return user

    async def _authorize(self, user: User, target: Target) -> None:
        if not target.info.is_resource and target.path in _OPEN_PATHS:
            return
        allowed, reason = await self.api.authorize(user, target.info)
        if not allowed:
            raise forbidden(user, target.info, reason)

    def _failure(self, error: StatusError, request: Request) -> Answer:
        """The answer for a failure, in the media type that the client would have got."""
        form = PLAIN
        if not isinstance(error, NotAcceptable):
            try:
                found = negotiate(request.headers.get("Accept", ""), shapes=True, list_or_watch=True)
                form = Form(found.media)
            except NotAcceptable:
                form = PLAIN
        answer = encode(orjson.dumps(error.to_status()), form, error.code)
        seconds = (error.details or {}).get("retryAfterSeconds")
        if seconds:
            answer.headers = {"Retry-After": str(seconds)}
        return answer

    async def _response(self, answer: Answer, exchange: Exchange) -> Response:
        headers = list(exchange.answer_headers.items())
        given = answer.headers or {}
        if "Cache-Control" not in given:
            headers.append(("Cache-Control", "no-cache, private"))
        if answer.content_type:
            headers.append(("Content-Type", answer.content_type))
        headers += given.items()
        if exchange.warnings:
            headers += [("Warning", value) for value in _warnings(exchange.warnings)]
        body = answer.body
        if compression.worthwhile(body, exchange.headers):
            body = await compression.gzipped(bytes(body))
            headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        return Response(answer.status, headers, body)


_NOBODY = User("")


def _new_id() -> str:
    """A random UUID, in a twentieth of the time that uuid takes."""
    text = token_hex(16)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _warnings(warnings: list[str]) -> Iterator[str]:
    """Each text once, as `299 - "text"`."""
    size = 0
    for text in dict.fromkeys(warnings):
        shown = "".join(char if char.isprintable() else " " for char in text)
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        value = f'299 - "{quoted}"'
        size += len(value)
        if size > _WARNINGS_BYTES:
            return
        yield value
