"""The client of the Kubernetes API: verbs on resource types, objects as dicts, errors as exceptions.

Source: API concepts, https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import client as http_client
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson

from machinery import metrics
from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.wire import Wire, WireError
from machinery.errors import StatusError, TooManyRequests, TransportError, status_error

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

_RETRIES = 10  # of 429 and of 503 with Retry-After, as client-go does
_REQUEST_SECONDS = 60.0
_TOKEN_FILE_SECONDS = 60.0
_AT_ONCE = 32
"""Requests under way at a time, and so connections (watches aside): a burst of hundreds would be answered no sooner, as
each new connection costs both sides a TLS handshake, which is dearer than the request."""


@dataclass(frozen=True, slots=True)
class ObjectList:
    """The items of a list with the revision they are of."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK, with the object."""

    type: str
    object: Object


class Client:
    """A connection pool to one API server. Use as an async context manager, or `await close()`.

    All methods raise StatusError subclasses for what the server answers and TransportError when it does not answer.
    `write_guard`, if set, is called before every write and may raise to stop it (leader election).
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str,
        timeout_seconds: float = _REQUEST_SECONDS,
        many_small_requests: bool = False,
    ) -> None:
        """`many_small_requests`: send what is no stream over `wire`, for a quarter of the CPU time."""
        self.config = config
        self.write_guard: Callable[[], None] | None = None
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if config.impersonate:
            self._headers["Impersonate-User"] = config.impersonate
        self._ssl = config.ssl_context()
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._wire = Wire(config.server, self._ssl) if many_small_requests else None
        self._token, self._token_read = config.token, float("-inf")
        self._host = urlsplit(config.server).netloc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._wire is not None:
            self._wire.close()

    async def use_certificate(self, config: ClientConfig) -> None:
        """Connect with another client certificate from now on; connections made with the old one are closed."""
        self.config, self._ssl = config, config.ssl_context()
        await self.close()

    def use_token(self, token: str) -> None:
        """Send this bearer token from now on."""
        self._token = token

    # -- verbs -------------------------------------------------------------------------------------------------------

    async def get(self, resource: ResourceType, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        """The object, as of now."""
        return await self.request("GET", resource.path(namespace, name, subresource))

    async def list(
        self,
        resource: ResourceType,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ObjectList:
        """Objects of the type; resource_version "0" takes what the server has in memory."""
        query = _selectors(label_selector, field_selector)
        if limit:
            query["limit"] = str(limit)
        if continue_token:
            query["continue"] = continue_token
        if resource_version:
            query["resourceVersion"] = resource_version
        found = await self.request("GET", resource.path(namespace), query=query)
        meta = found.get("metadata", {})
        items = found.get("items") or []
        for item in items:  # items of a list carry no type of their own
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return ObjectList(items, meta.get("resourceVersion", ""), meta.get("continue", ""))

    async def create(self, resource: ResourceType, obj: Object, namespace: str = "") -> Object:
        """Create; the namespace is taken from the object unless given."""
        return await self.request("POST", resource.path(namespace or namespace_of(obj)), body=obj)

    async def create_subresource(
        self, resource: ResourceType, name: str, subresource: str, obj: Object, namespace: str = ""
    ) -> Object:
        """POST to a subresource: binding, eviction, token."""
        return await self.request("POST", resource.path(namespace, name, subresource), body=obj)

    async def update(self, resource: ResourceType, obj: Object, *, subresource: str = "") -> Object:
        """Replace the object (or its subresource), if its resourceVersion is still the one in `obj`."""
        return await self.request("PUT", resource.path(namespace_of(obj), name_of(obj), subresource), body=obj)

    async def patch(
        self,
        resource: ResourceType,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        content_type: str = MERGE,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """Change part of an object; APPLY needs query fieldManager."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=patch, content_type=content_type, query=query)

    async def delete(
        self,
        resource: ResourceType,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> Object:
        """Delete; propagation is Background, Foreground or Orphan. The answer is the object, or a Status."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        return await self.request("DELETE", resource.path(namespace, name), body=options)

    async def watch(
        self,
        resource: ResourceType,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 0,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version`, until the server ends the stream. Raises Expired when it is too old."""
        query = _selectors(label_selector, field_selector) | {"watch": "true"}
        if resource_version:
            # Without a revision to start from, bookmarks need what old versions of etcd do not have: an error.
            query |= {"resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        if timeout_seconds:
            query["timeoutSeconds"] = str(timeout_seconds)
        async for line in self.stream(resource.path(namespace), query=query):
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise status_error(event["object"])
            yield WatchEvent(event["type"], event["object"])

    # -- requests ----------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """One request with JSON in and out; waits and tries again when the server is too busy (429)."""
        if self.write_guard is not None and method != "GET":
            self.write_guard()
        data = None if body is None else orjson.dumps(body)
        for attempt in range(_RETRIES + 1):
            try:
                return await self._once(method, path, query, data, content_type, headers)
            except TooManyRequests as exc:
                wait = (exc.details or {}).get("retryAfterSeconds")
                if wait is None or attempt == _RETRIES:
                    raise
                await asyncio.sleep(float(wait))
        raise AssertionError("the loop returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        headers: Mapping[str, str] | None,
    ) -> Object:
        sent = self._request_headers()
        if data is not None:
            sent["Content-Type"] = content_type
        if headers:
            sent.update(headers)
        status, retry_after, text = await self._exchange(method, path, query, data, sent)
        metrics.REST_REQUESTS.labels(str(status), method, self._host).inc()
        if status >= 400:
            raise _failure(status, retry_after, text)
        return _decode(text, method, path)

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, data: bytes | None, sent: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """(status, Retry-After, body)."""
        try:
            if self._wire is not None:
                target = f"{path}?{urlencode(query)}" if query else path
                async with self._gate:
                    answer = await self._wire.request(method, target, sent, data, self._timeout_seconds)
                return answer.status, answer.headers.get("retry-after", ""), answer.body
            async with (
                self._gate,
                self._open().request(
                    method, self.config.server + path, params=query, data=data, headers=sent, timeout=self._timeout
                ) as response,
            ):
                return response.status, response.headers.get("Retry-After", ""), await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError, WireError) as exc:
            self._unreachable(method, path, exc)

    async def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The lines of an answer that goes on: a watch, a followed log."""
        sent = self._request_headers() | dict(headers or {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        try:
            async with self._open().get(
                self.config.server + path, params=query, headers=sent, timeout=timeout
            ) as response:
                metrics.REST_REQUESTS.labels(str(response.status), "GET", self._host).inc()
                if response.status >= 400:
                    text = await response.read()
                    raise _failure(response.status, response.headers.get("Retry-After", ""), text)
                rest = b""
                async for chunk in response.content.iter_any():
                    lines = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
                    rest = lines.pop()
                    for line in lines:
                        if line:
                            yield line
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            self._unreachable("GET", path, exc)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls: Any = self._ssl if self._ssl is not None else True
            connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=90, ttl_dns_cache=60)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        return self._session

    def _request_headers(self) -> dict[str, str]:
        if self.config.token_file and time.monotonic() - self._token_read > _TOKEN_FILE_SECONDS:
            try:
                with open(os.path.realpath(self.config.token_file), encoding="utf-8") as file:
                    self._token = file.read().strip()
            except OSError as exc:
                raise TransportError(f"cannot read token file {self.config.token_file}: {exc.strerror}") from exc
            self._token_read = time.monotonic()
        return self._headers | {"Authorization": f"Bearer {self._token}"} if self._token else dict(self._headers)

    def _unreachable(self, method: str, path: str, exc: Exception) -> NoReturn:
        metrics.REST_REQUESTS.labels("<error>", method, self._host).inc()
        told = str(exc) or type(exc).__name__
        raise TransportError(f"{method} {self.config.server}{path}: {told}") from exc


def _failure(code: int, retry_after: str, text: bytes) -> StatusError:
    try:
        status = orjson.loads(text)
    except orjson.JSONDecodeError:
        status = {}
    if not isinstance(status, dict) or status.get("kind") != "Status":
        told = text[:500].decode("utf-8", "replace").strip() or http_client.responses.get(code, str(code))
        status = {"code": code, "message": told}
    if retry_after.isdigit():
        status["details"] = {**(status.get("details") or {}), "retryAfterSeconds": int(retry_after)}
    return status_error(status)


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    chosen = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return {name: text for name, text in chosen if text}


def _decode(text: bytes, method: str, path: str) -> Object:
    try:
        answer: Object = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise TransportError(f"{method} {path}: the answer is not JSON: {text[:80]!r}") from exc
    return answer
