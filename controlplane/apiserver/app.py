"""The border with HTTP: who asks, may they, which handler, and the answer or failure as bytes.

Writes go on to their end even if the client has gone; reads and watches end with it.

Source: k8s.io/apiserver/pkg/server/config.go (the chain of filters).
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from multidict import CIMultiDict

from controlplane.apiserver import compression
from controlplane.apiserver.authz.refusal import forbidden
from controlplane.apiserver.dispatch import dispatch
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.encoding import encode
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.paths import Paths
from controlplane.apiserver.metrics import observe
from controlplane.apiserver.negotiation import PLAIN, Form, negotiate
from controlplane.apiserver.request import Credentials, User
from controlplane.apiserver.routing import Router, Target
from controlplane.apiserver.tls import peer_certificates
from machinery.errors import InternalError, NotAcceptable, StatusError, StorageUnavailable, Unauthorized
from machinery.log import get_logger

log = get_logger(__name__)

_OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})  # as --authorization-always-allow-paths has it by default
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_WARNINGS_BYTES = 4096  # all Warning headers of an answer together


@dataclass
class App:
    """Answers HTTP requests. `run` it in a task for as long as requests come."""

    api: Api
    paths: Paths
    router: Router
    _tasks: set[asyncio.Task[web.StreamResponse]] = field(default_factory=set)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: what aiohttp's server calls."""
        if request.method in _READING or "Upgrade" in request.headers:
            return await self._respond(request)
        # A write is not left half done because its client went away.
        task = asyncio.ensure_future(self._respond(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for writes under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.api.settings.request_timeout_seconds)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        start = self.api.clock.monotonic()
        target = self.router.target(request.method, request.path_qs if request.raw_path is None else request.raw_path)
        exchange = Exchange(
            request,
            request.method,
            target,
            request.headers,
            _NOBODY,
            self.api.settings.max_request_body_bytes,
        )
        exchange.answer_headers["Audit-Id"] = str(uuid.uuid4())
        try:
            exchange.user = await self._authenticate(request, target)
            await self._authorize(exchange.user, target)
            response = await dispatch(self.api, self.paths, exchange)
        except StatusError as exc:
            response = self._failure(exc, request)
        except StorageUnavailable as exc:
            log.error("storage unavailable", path=target.path, error=exc)
            response = self._failure(InternalError(str(exc)), request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as exc:  # the border: a defect costs its request and nothing else
            log.error("request failed", path=target.path, method=request.method, error=exc, trace=True)
            told = f"This request caused apiserver to panic. Look in the logs for details: {type(exc).__name__}"
            response = self._failure(InternalError(told), request)
        if isinstance(response, web.StreamResponse):
            return response
        made = await self._http(response, exchange)
        observe(exchange, made.status, len(response.body), self.api.clock.monotonic() - start)
        return made

    async def _authenticate(self, request: web.BaseRequest, target: Target) -> User:
        extensions = self.api.extensions
        certificates = peer_certificates(request.get_extra_info("ssl_object"))
        credentials = Credentials(certificates, request.headers, request.remote or "")
        for authenticator in extensions.authenticators:
            user = await authenticator.authenticate(credentials)
            if user is not None:
                break
        else:
            raise Unauthorized("Unauthorized")
        if any(name.lower().startswith("impersonate-") for name in request.headers):
            return await extensions.impersonate(user, request.headers, target.info)
        return user

    async def _authorize(self, user: User, target: Target) -> None:
        if not target.info.is_resource and target.path in _OPEN_PATHS:
            return
        allowed, reason = await self.api.authorize(user, target.info)
        if not allowed:
            raise forbidden(user, target.info, reason)

    def _failure(self, error: StatusError, request: web.BaseRequest) -> Answer:
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

    async def _http(self, answer: Answer, exchange: Exchange) -> web.Response:
        headers: CIMultiDict[str] = CIMultiDict(exchange.answer_headers)
        headers["Cache-Control"] = "no-cache, private"
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if answer.headers:
            headers.update(answer.headers)
        if exchange.warnings:
            _add_warnings(headers, exchange.warnings)
        body = answer.body
        if compression.worthwhile(body, exchange.headers):
            body = await compression.gzipped(body)
            headers["Content-Encoding"] = "gzip"
            headers["Vary"] = "Accept-Encoding"
        return web.Response(body=body, status=answer.status, headers=headers)


_NOBODY = User("")


def _add_warnings(headers: CIMultiDict[str], warnings: list[str]) -> None:
    """Each text once, as `299 - "text"`."""
    size = 0
    for text in dict.fromkeys(warnings):
        shown = "".join(char if char.isprintable() else " " for char in text)
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        value = f'299 - "{quoted}"'
        size += len(value)
        if size > _WARNINGS_BYTES:
            return
        headers.add("Warning", value)
