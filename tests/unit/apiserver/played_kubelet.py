"""An API server with a node whose kubelet is played by the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from controlplane.apiserver.handlers.contract import ExtensionsFactory
from controlplane.apiserver.testing import RunningServer, running_apiserver, tls

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

POD = {
    "metadata": {"name": "web"},
    "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]},
}


@asynccontextmanager
async def cluster_with(
    serve: Serve, *factories: ExtensionsFactory
) -> AsyncIterator[tuple[RunningServer, aiohttp.ClientSession]]:
    """An API server, one node whose kubelet answers by `serve`, and a pod on it."""
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls())
    port = listener.sockets[0].getsockname()[1]
    async with listener, running_apiserver(factories=factories) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
            await _put_node(client, port)
            async with client.post("/api/v1/namespaces/default/pods", json=POD) as made:
                assert made.status == 201, await made.text()
            yield server, client


async def _put_node(client: aiohttp.ClientSession, port: int) -> None:
    async with client.post("/api/v1/nodes", json={"metadata": {"name": "node1"}}) as made:
        node: dict[str, Any] = await made.json()
    node["status"] = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    async with client.put("/api/v1/nodes/node1/status", json=node) as made:
        assert made.status == 200, await made.text()
