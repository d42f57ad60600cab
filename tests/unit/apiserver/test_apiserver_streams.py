"""What goes on to kubelets: logs, and connections that change protocols."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from played_kubelet import cluster_with

from controlplane.apiserver.testing import RunningServer


class Kubelet:
    """Answers HTTP/1.1 requests by hand, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *headers = head.strip().split("\r\n")
        self.asked.append(line)
        self.headers = headers
        if "?previous=" in line:
            text = b"previous terminated container not found"
            head_of_it = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
            writer.write(head_of_it % len(text) + text)
            await writer.drain()
        elif line.startswith("GET /containerLogs/"):
            await self._logs(writer)
        elif "/refused?" in line:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot there")
            await writer.drain()
        else:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello ")
            while data := await reader.read(1 << 16):
                writer.write(data.upper())
                await writer.drain()
        writer.close()

    async def _logs(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in (b"one\n", b"two\n"):
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[RunningServer, Kubelet, aiohttp.ClientSession]]:
    kubelet = Kubelet()
    async with cluster_with(kubelet.serve) as (server, client):
        yield server, kubelet, client


async def test_logs_come_from_the_kubelet_as_they_are_written() -> None:
    async with cluster() as (_, kubelet, client):
        url = "/api/v1/namespaces/default/pods/web/log?follow=true&tailLines=5&timestamps=false"
        async with client.get(url) as answer:
            assert (answer.status, await answer.text()) == (200, "one\ntwo\n")
            assert answer.headers["Content-Type"].startswith("text/plain")
        assert kubelet.asked == ["GET /containerLogs/default/web/c?follow=true&tailLines=5 HTTP/1.1"]
        assert not any(header.lower().startswith("authorization") for header in kubelet.headers)


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("container=other", 400, "container other is not valid for pod web"),
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
async def test_wrong_log_options_are_refused(query: str, status: int, told: str) -> None:
    async with cluster() as (_, kubelet, client):
        async with client.get(f"/api/v1/namespaces/default/pods/web/log?{query}") as answer:
            assert answer.status == status
            assert told in (await answer.json())["message"]
        assert not kubelet.asked


@pytest.mark.parametrize("subprotocol", ["", "binary.k8s.io", "base64.binary.k8s.io"])
async def test_logs_can_be_messages_of_a_websocket(subprotocol: str) -> None:
    async with cluster() as (_, _, client):
        url = "/api/v1/namespaces/default/pods/web/log?container=c"
        async with client.ws_connect(url, protocols=[subprotocol] if subprotocol else []) as socket:
            assert (socket.protocol or "") == subprotocol
            got = [message.data async for message in socket]
        if subprotocol.startswith("base64"):
            got = [base64.b64decode(text) for text in got]
        assert got[0] == b""
        assert b"".join(got) == b"one\ntwo\n"


async def test_what_the_kubelet_says_against_it_is_told_as_a_status() -> None:
    async with cluster() as (_, _, client):
        async with client.get("/api/v1/namespaces/default/pods/web/log?previous=true") as answer:
            status = await answer.json()
        assert (answer.status, status["kind"], status["reason"]) == (400, "Status", "BadRequest")
        assert status["message"] == "previous terminated container not found"


async def raw(server: RunningServer, path: str, protocol: str = "SPDY/3.1") -> tuple[Any, Any]:
    context = ssl.create_default_context(cadata=server.ca.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port, ssl=context)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: kubernetes",
        f"Authorization: Bearer {server.token}",
        "Connection: Upgrade",
        f"Upgrade: {protocol}",
        "X-Stream-Protocol-Version: v4.channel.k8s.io",
        "Content-Length: 0",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    return reader, writer


async def test_exec_joins_the_client_and_the_kubelet() -> None:
    async with cluster() as (server, kubelet, _):
        path = "/api/v1/namespaces/default/pods/web/exec?command=ls&command=-l&stdin=true&stdout=true"
        reader, writer = await raw(server, path)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.write(b"abc" * 100_000)
        async with asyncio.timeout(10):
            assert await reader.readexactly(6) == b"hello "
            assert await reader.readexactly(300_000) == b"ABC" * 100_000
        writer.close()
        assert kubelet.asked == ["POST /exec/default/web/c?input=1&output=1&command=ls&command=-l HTTP/1.1"]
        assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in kubelet.headers


async def test_port_forward_ends_when_the_client_goes() -> None:
    async with cluster() as (server, kubelet, _):
        reader, writer = await raw(server, "/api/v1/namespaces/default/pods/web/portforward?ports=80")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        await writer.wait_closed()
        assert kubelet.asked == ["POST /portForward/default/web?port=80 HTTP/1.1"]


async def test_a_kubelet_that_refuses_to_change_protocols_is_heard() -> None:
    async with cluster() as (server, _, client):
        reader, writer = await raw(server, "/api/v1/nodes/node1/proxy/refused?x=y")
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 ")
            assert await reader.readexactly(9) == b"not there"
        writer.close()
        async with client.get("/api/v1/namespaces/default/pods/web/exec?command=ls") as answer:
            assert (answer.status, (await answer.json())["message"]) == (400, "Upgrade request required")


async def test_a_node_that_is_gone_or_silent_is_told() -> None:
    async with cluster() as (_, _, client):
        await put_closed_node(client)
        async with client.get("/api/v1/namespaces/default/pods/web/log") as answer:
            why = "dial tcp 127.0.0.1:1: connect: connection refused"
            told = f'Get "https://127.0.0.1:1/containerLogs/default/web/c": {why}'
            assert (answer.status, (await answer.json())["message"]) == (500, told)
        headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
        url = "/api/v1/namespaces/default/pods/web/exec?command=ls&stdout=true"
        async with client.post(url, headers=headers) as answer:
            told = f"error dialing backend: {why}"
            assert (answer.status, (await answer.json())["message"]) == (500, told)
        async with client.delete("/api/v1/nodes/node1"):
            pass
        async with client.get("/api/v1/namespaces/default/pods/web/log") as answer:
            assert (answer.status, json.loads(await answer.text())["message"]) == (404, 'nodes "node1" not found')


async def put_closed_node(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/nodes/node1") as answer:
        node = await answer.json()
    node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] = 1
    async with client.put("/api/v1/nodes/node1/status", json=node) as answer:
        assert answer.status == 200
