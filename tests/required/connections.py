"""Requests to a live cluster that the client has no way for: bodies as they are written, protobuf, web sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from cluster import SECONDS, Cluster

from machinery.api.meta import Object
from machinery.api.protobuf import envelope


@asynccontextmanager
async def _session(cluster: Cluster) -> AsyncIterator[tuple[aiohttp.ClientSession, dict[str, Any]]]:
    """A session, and what every request needs."""
    config = cluster.client.config
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        yield session, {"ssl": config.ssl_context() or True, "headers": headers}


async def send(
    cluster: Cluster,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: str = "",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """(status, JSON or None for nothing) of a request whose body is sent as it is written."""
    async with _session(cluster) as (session, options):
        options["headers"] |= ({"Content-Type": content_type} if body else {}) | dict(headers or {})
        url = cluster.client.config.server + path
        async with session.request(method, url, params=query, data=body.encode() or None, **options) as answer:
            text = await answer.read()
            return answer.status, orjson.loads(text) if text else None


async def websocket_messages(
    cluster: Cluster, path: str, query: list[tuple[str, str]], subprotocol: str
) -> list[bytes]:
    """All (binary) messages of a web socket until the server closes it."""
    url = cluster.client.config.server + path
    async with _session(cluster) as (session, options):
        connecting = session.ws_connect(url, params=query, protocols=[subprotocol], **options)
        async with connecting as socket:
            assert socket.protocol == subprotocol
            return [message.data async for message in socket]


async def get_protobuf(cluster: Cluster, path: str) -> Object:
    """An object as protobuf tells it."""
    async with _session(cluster) as (session, options):
        options["headers"]["Accept"] = "application/vnd.kubernetes.protobuf"
        async with session.get(cluster.client.config.server + path, **options) as response:
            assert response.content_type == "application/vnd.kubernetes.protobuf"
            return envelope.decode(await response.read())
