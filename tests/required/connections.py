"""Requests to a live cluster that are not JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from cluster import SECONDS, Cluster

from machinery.api.meta import Object
from machinery.api.protobuf import envelope


@asynccontextmanager
async def _session(cluster: Cluster) -> AsyncIterator[tuple[aiohttp.ClientSession, dict[str, Any]]]:
    """A session, and what every request needs."""
    config = cluster.client.config
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        yield session, {"ssl": config.ssl_context(), "headers": headers}


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
