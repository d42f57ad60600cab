"""The border with HTTP: who asks, may they, which handler, and the answer or failure as bytes.

Writes go on to their end even if the client has gone; reads and watches end with it.

Source: k8s.io/apiserver/pkg/server/config.go (the chain of filters).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import orjson

from controlplane.apiserver import compression
from controlplane.apiserver.deadlines import Deadlines
from controlplane.apiserver.dispatch import dispatch
from controlplane.apiserver.gates import Gates, Passage, TooMany
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.encoding import encode
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.health import TEXT
from controlplane.apiserver.handlers.paths import Paths
from controlplane.apiserver.http.connection import Response
from controlplane.apiserver.http.request import Answered, Request
from controlplane.apiserver.metrics import labels_of
from controlplane.apiserver.negotiation import PLAIN, Form, negotiate
from controlplane.apiserver.request import User
from controlplane.apiserver.routing import Router
from machinery.api.fielderror import show
from machinery.api.meta import uuid_of
from machinery.errors import BadRequest, InternalError, NotAcceptable, StatusError, StorageUnavailable, Timeout
from machinery.log import get_logger
from machinery.settings import duration

log = get_logger(__name__)

_ASKING_HOW = frozenset({"/healthz", "/livez", "/readyz"})
_LONGEST_ID = 64
_APPLY = "application/apply-patch+yaml"
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_TIMED_OUT = "Timeout: request did not complete within the allotted timeout"
_TOO_MANY = 429
_TOO_MANY_TOLD = b"Too many requests, please try again later.\n"
_ENDING = Answer(
    b"The apiserver is shutting down, please try again later.\n", TEXT, _TOO_MANY, {"Retry-After": "5", **_NO_SNIFF}
)
_WARNINGS_BYTES = 4096  # all Warning headers of an answer together


class App:
    """Answers HTTP requests."""

    def __init__(self, api: Api, paths: Paths, router: Router, gates: Gates) -> None:
        self.api = api
        self.paths = paths
        self.router = router
        self.gates = gates
        self._deadlines = Deadlines()
        self._transport_security = "; ".join(api.settings.strict_transport_security_directives)
        self.refusing = False
        """The server is about to end and takes no more requests (but for those that ask how it is)."""

    async def handle(self, request: Request) -> Response | Answered:
        """Answer one request: what the HTTP server calls."""
        begun = self.api.clock.monotonic()
        target = self.router.target(request.method, request.target)
        exchange = Exchange(
            request, request.method, target, request.headers, _NOBODY, self.api.settings.max_request_body_bytes
        )
        exchange.answer_headers["Audit-Id"] = _id_of(request)
        if self._transport_security:
            exchange.answer_headers["Strict-Transport-Security"] = self._transport_security
        if self.refusing and target.path not in _ASKING_HOW:
            return await self._response(_ENDING, exchange, close=True)
        passage = Passage(self.gates, exchange)
        labels = labels_of(
            target.info, target.served is not None, "dryRun" in target.query, exchange.content_type == _APPLY
        )
        counted, key = self._counts(passage, labels)
        counted[key] += 1
        try:
            answer = await self._answer(passage)
        finally:
            counted[key] -= 1
            passage.leave()
        if passage.trail is not None and not passage.panicked:
            passage.trail.complete(answer if isinstance(answer, Answer) else None)
        if isinstance(answer, Answered):
            self.api.metrics.requests[labels, answer.status] += 1
            return answer
        self.api.metrics.answered(labels, answer.status, self.api.clock.monotonic() - begun)
        if answer.status == _TOO_MANY or passage.expired:
            self.api.metrics.terminations[labels, answer.status] += 1
        return await self._response(answer, exchange)

    def _counts(self, passage: Passage, labels: tuple[str, ...]) -> tuple[dict[Any, int], Any]:
        """Where the request is counted while it is being served."""
        metrics = self.api.metrics
        return (metrics.long_running, labels) if passage.long_running else (metrics.inflight, passage.kind)

    async def _answer(self, passage: Passage) -> Answer | Answered:
        """The answer, or what there is to be told of a failure. A client that leaves ends it by cancelling."""
        exchange = passage.exchange
        try:
            if not passage.long_running:
                self._deadlines.begin(passage, self._seconds(exchange))
            await passage.enter()
            return await dispatch(self.api, self.paths, exchange)
        except TooMany as exc:
            return Answer(_TOO_MANY_TOLD, TEXT, _TOO_MANY, {"Retry-After": str(exc.retry_seconds), **_NO_SNIFF})
        except StatusError as exc:
            return self._failure(exc, exchange.raw)
        except StorageUnavailable as exc:
            log.error("storage unavailable", path=exchange.target.path, error=exc)
            return self._failure(InternalError(str(exc)), exchange.raw)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not passage.expired or task is None or task.uncancel():
                raise
            return self._failure(Timeout(_TIMED_OUT, details={}), exchange.raw)
        except ConnectionError:
            raise
        except Exception as exc:  # the border: a defect costs its request and nothing else
            log.error("request failed", path=exchange.target.path, method=exchange.method, error=exc, trace=True)
            told = f"This request caused apiserver to panic. Look in the logs for details: {type(exc).__name__}"
            passage.panic(type(exc).__name__)
            return self._failure(InternalError(told), exchange.raw)
        finally:
            self._deadlines.end(passage)

    def _seconds(self, exchange: Exchange) -> float:
        """How long the request may take. Raises BadRequest for a timeout that is none.

        Source: k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go.
        """
        most = self.api.settings.request_timeout_seconds
        text = exchange.query.get("timeout")
        if not text:
            return most
        try:
            asked = duration(text)
        except ValueError as exc:
            told = f"time: invalid duration {show(text)}"
            raise BadRequest(f"invalid timeout specified in the request URL - {told}") from exc
        return asked if 0 < asked < most else most

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

    async def _response(self, answer: Answer, exchange: Exchange, *, close: bool = False) -> Response:
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
        return Response(answer.status, headers, body, close)


_NOBODY = User("")
_random = Random()


def _id_of(request: Request) -> str:
    """The client's own Audit-ID, or a random UUID made in a fortieth of the time that uuid takes."""
    given = request.headers.get("Audit-ID")
    if given and len(given) <= _LONGEST_ID:
        return given
    return uuid_of(f"{_random.getrandbits(128):032x}")


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
